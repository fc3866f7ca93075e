"""Delays on purpose, to see that they are found: off unless a process is started with a file.

TOKENMILL_FAULTS_FILE names a file with a line `POINT SECONDS` for each place that shall be slow. It
is read again at every pass, so that a running cluster can be made slow here and there in turn.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

FILE_VARIABLE = "TOKENMILL_FAULTS_FILE"
TOKENIZE, QUEUE, PLACE, CACHE, STEP, WRITE = (
    "tokenize", "queue", "place", "cache", "step", "write",
)  # fmt: skip

_path = os.environ.get(FILE_VARIABLE)


def delay_s(point: str) -> float:
    """How slow a place shall be now, seconds; 0 where no file is named."""
    if _path is None:
        return 0.0
    try:
        lines = Path(_path).read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.split()[:1] == [point]), 0.0)


async def pause(point: str) -> None:
    """Waits as long as the place shall be slow; others go on meanwhile."""
    if _path is not None and (seconds := delay_s(point)) > 0:
        await asyncio.sleep(seconds)


def block(point: str) -> None:
    """The same, and nothing else in this thread goes on meanwhile."""
    if _path is not None and (seconds := delay_s(point)) > 0:
        time.sleep(seconds)
