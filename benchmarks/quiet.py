"""Keeps measurements of several programs on one machine apart.

TOKENMILL_BENCH_LOCK names a file. A measurement holds it exclusively, so that none runs beside
another; what only loads the machine (starting, converting) shares it. Unset, nothing is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

VARIABLE = "TOKENMILL_BENCH_LOCK"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """While a measurement runs; waits until no other program holds the lock."""
    with _locked(fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def in_company() -> Iterator[None]:
    """While work runs that would disturb a measurement but is none."""
    with _locked(fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def _locked(kind: int) -> Iterator[None]:
    path = os.environ.get(VARIABLE)
    if not path:
        yield
        return
    with open(path, "a") as file:
        fcntl.flock(file, kind)
        yield
