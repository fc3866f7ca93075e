"""Which process a number means: process ids are used again, start times with them are not."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

# Fields of /proc/PID/stat after the program's name, which may itself hold spaces and brackets.
_STATE, _START_TICKS = 0, 19


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that was seen running.

    Attributes:
        start_ticks: when it started, as the kernel counts; 0 where the kernel does not tell.
    """

    pid: int
    start_ticks: int

    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        if not Path("/proc/self/stat").exists():
            return _answers_signals(self.pid)
        found = _read_stat(self.pid)
        return found is not None and found == self.start_ticks

    def send(self, number: signal.Signals) -> bool:
        """Signals it; False if it is gone."""
        if not self.is_alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def identify(pid: int) -> ProcessIdentity:
    """Identity of a process that runs now."""
    return ProcessIdentity(pid, _read_stat(pid) or 0)


def _read_stat(pid: int) -> int | None:
    """Start time of a process; None if there is none, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[_STATE] in "ZX" else int(fields[_START_TICKS])


def _answers_signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
