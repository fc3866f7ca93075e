"""CPU time and memory of processes, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_UTIME, _STIME = 11, 12
"""Fields of /proc/PID/stat after the program's name."""

_IDLE, _IO_WAIT = 3, 4
"""Of the first line of /proc/stat."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S


def memory_mib(pid: int) -> float:
    """Memory of a process in MiB, pages that it shares with others counted in part; 0: it is gone.

    Shared pages matter: workers map one file of weights.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def machine_cpu_s() -> tuple[float, float]:
    """CPU seconds of all CPUs together since the start of the machine: used, and idle."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0, 0.0
    ticks = [int(field) for field in first[:8]]
    idle = ticks[_IDLE] + ticks[_IO_WAIT]
    return (sum(ticks) - idle) / _TICKS_PER_S, idle / _TICKS_PER_S
