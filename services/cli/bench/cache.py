"""`tokenmill bench cache`: it reads the simulator's traces, so it is a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def bench_cache(arguments: Sequence[str]) -> int:
    """Runs the comparison with these arguments; returns its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.cache", *arguments], check=False
    ).returncode
