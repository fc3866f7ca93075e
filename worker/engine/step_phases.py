"""Where the time of steps goes, while somebody asks: `with timed() as seconds: ...`.

For the whole process, as a profiler is; one step thread writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_asked: dict[str, float] | None = None


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds by phase of the steps meanwhile; empty for a model that tells none."""
    global _asked
    _asked = seconds = {}
    try:
        yield seconds
    finally:
        _asked = None


def is_timed() -> bool:
    """Whether phases are wanted; otherwise nobody should read a clock."""
    return _asked is not None


def add(seconds: Mapping[str, float]) -> None:
    """What one step took, by phase."""
    if (asked := _asked) is not None:
        for phase, step_s in seconds.items():
            asked[phase] = asked.get(phase, 0.0) + step_s


@contextmanager
def phase(name: str) -> Iterator[None]:
    """What goes on inside is a phase."""
    if not is_timed():
        yield
        return
    began = time.perf_counter()
    try:
        yield
    finally:
        add({name: time.perf_counter() - began})
