"""`python -m benchmarks.scheduler`: JSON in, figures out.

A process of its own: it stands above the scheduler and the gateway, so the command line, which is a
process as they are, cannot import it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import structlog

from benchmarks.children import ChildFailed
from benchmarks.scheduler.decisions import DecisionPlan, measure_decisions
from benchmarks.scheduler.throughput import ThroughputPlan, measure_throughput
from services.core.errors import TokenmillError


def main() -> int:
    """The program; returns its exit status."""
    # stdout is for the answer.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    wanted: dict[str, Any] = json.load(sys.stdin)
    result = measure_decisions(DecisionPlan(**wanted["decisions"]))
    with tempfile.TemporaryDirectory(prefix="tokenmill-bench-") as folder:
        try:
            result |= measure_throughput(
                ThroughputPlan(**wanted["throughput"]), wanted["nats_server"], Path(folder)
            )
        except (ChildFailed, TokenmillError, TimeoutError, OSError) as exc:
            sys.stderr.write(f"{exc}\n")
            return 1
    sys.stdout.write(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
