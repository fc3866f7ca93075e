"""`tokenmill bench scheduler`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from services.cli.bench.module import run_module
from services.cli.cluster.build import find_programs

_TIMEOUT_S = 600.0

WANTED = {
    "place_us": "at most 200",
    "refuse_us": "below 1000",
    "requests_per_s": "at least 2000",
    "added_latency_ms": "p99 at most 10",
}
"""What each figure is held against."""


def scheduler(decisions: Mapping[str, Any], throughput: Mapping[str, Any]) -> dict[str, Any]:
    """Measures decisions, and a scheduler behind a broker of its own.

    Args:
        decisions: fields of `benchmarks.scheduler.decisions.DecisionPlan`.
        throughput: fields of `benchmarks.scheduler.throughput.ThroughputPlan`.

    Raises:
        CommandFailed: broker, scheduler or fake workers do not run.
    """
    wanted = {
        "nats_server": find_programs().nats_server,
        "decisions": dict(decisions),
        "throughput": dict(throughput),
    }
    found = run_module(
        "benchmarks.scheduler", wanted, timeout_s=_TIMEOUT_S, lacking="no measurement"
    )
    return {**found, "wanted": WANTED, "num_cpus": os.cpu_count()}
