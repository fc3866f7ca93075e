"""A load client leaves the CPU to the server that it loads, where both are on one machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

SESSION = Path("/proc/self/autogroup")
_NUM_TRIALS = 5
_PAUSE_S = 0.2
"""Linux takes ten changes a second, whoever makes them."""


@contextlib.contextmanager
def giving_way(nice: int, session: Path = SESSION) -> Iterator[None]:
    """Lowers this process by so much for good, and its session meanwhile.

    Linux shares the CPU out by session first, and nice counts only among the processes of one
    (sched_autogroup): beside a cluster in the background, which has a session of its own, a client
    that is merely nice gets as much of the CPU as all of the cluster.
    """
    os.nice(nice)
    try:
        before = int(session.read_text().split()[-1])
    except (OSError, ValueError, IndexError):  # no Linux, or one without autogroups
        yield
        return
    _set(session, max(before, nice))
    try:
        yield
    finally:
        _set(session, before)


def _set(session: Path, nice: int) -> None:
    for _ in range(_NUM_TRIALS):
        with contextlib.suppress(OSError):
            session.write_text(str(nice))
            return
        time.sleep(_PAUSE_S)
