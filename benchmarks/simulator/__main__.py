"""`python -m benchmarks.simulator`: what `tokenmill simulate` runs."""

from __future__ import annotations

from benchmarks.simulator.command import main

main()
