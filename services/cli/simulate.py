"""`tokenmill simulate`: the simulator stands above all processes, so it runs as one of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def simulate(arguments: Sequence[str]) -> int:
    """Runs the simulator with these arguments; returns its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.simulator", *arguments], check=False
    ).returncode
