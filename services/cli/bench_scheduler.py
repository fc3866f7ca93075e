"""`tokenmill bench scheduler`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.quiet import alone
from services.cli.cluster.build import find_programs
from services.cli.failure import CommandFailed

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
    with alone():
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scheduler"],
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    if done.returncode != 0:
        last_words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise CommandFailed(f"there is no measurement: {last_words[0]}")
    return {**json.loads(done.stdout), "wanted": WANTED, "num_cpus": os.cpu_count()}
