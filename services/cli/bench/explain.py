"""`tokenmill bench explain`: are delays blamed on the right part, and do the parts sum up?"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.blame import BLAMED, Asked, ask_mixed, ask_slowed
from services.cli.cluster.state import ClusterState
from services.cli.explain.explanation import Explanation
from services.cli.explain.lookup import explain_request
from services.cli.failure import CommandFailed
from services.cli.own_cluster import own_cluster
from services.cli.traces.asking import Asking
from services.runtime import faults

# Above the delay: what comes late must not be given up.
_PATIENCE_S = "5"
_SPANS_ARRIVE_S = 1.5


def bench_explain(*, repeats: int, delay_ms: float, mixed: int, engine: str) -> dict[str, Any]:
    """Measures on a cluster of its own.

    Args:
        repeats: slowed requests of each point.
        delay_ms: that each of them is slowed by.
        mixed: requests of the mixed load, with no delay but what they do to each other.
        engine: fake, whose steps can be slowed, or torch for the mixed load on the real model.

    Raises:
        CommandFailed: the cluster cannot be started.
    """
    with TemporaryDirectory(prefix="tokenmill-faults-") as directory:
        faults_file = Path(directory) / "faults"
        os.environ.update(
            {
                faults.FILE_VARIABLE: str(faults_file),
                "TOKENMILL_FAKE_STEP_TIME_S": "0.005",
                "TOKENMILL_FAKE_PREFILL_S_PER_TOKEN": "0.0001",
                "TOKENMILL_CACHE_LOOKUP_TIMEOUT_S": _PATIENCE_S,
            }
        )
        with own_cluster(engine=engine, num_workers=2) as state:
            if state.traces_file is None:
                raise CommandFailed("traces go elsewhere: unset OTEL_EXPORTER_OTLP_ENDPOINT")
            asyncio.run(ask_mixed(state.http_url, state.model_name, num_requests=4, concurrency=2))
            points = list(BLAMED) if engine == "fake" else []
            slowed = {
                point: _blame(state, faults_file, point, delay_ms / 1000, repeats)
                for point in points
            }
            return {
                "engine": engine,
                "delay_ms": delay_ms,
                "slowed": slowed,
                "mixed": _sum_up(state, mixed),
            }


def _blame(
    state: ClusterState, faults_file: Path, point: str, delay_s: float, repeats: int
) -> dict[str, Any]:
    asked = ask_slowed(
        state.http_url,
        state.model_name,
        faults_file,
        point=point,
        delay_s=delay_s,
        num_requests=repeats,
    )
    blamed = Counter(next(iter(one.latency.parts_ms)) for one in _explained(state, asked))
    return {
        "right": sum(count for part, count in blamed.items() if part in BLAMED[point]),
        "of": repeats,
        "blamed": dict(blamed),
    }


def _sum_up(state: ClusterState, num_requests: int) -> dict[str, Any]:
    asked = asyncio.run(
        ask_mixed(state.http_url, state.model_name, num_requests=num_requests, concurrency=8)
    )
    told = _explained(state, asked)
    shares = [one.latency.unattributed_ms / one.latency.ms for one in told]
    off = [abs(one.latency.ms - own.client_ms) for one, own in zip(told, asked, strict=True)]
    return {
        "requests": len(told),
        "within_2_percent": sum(share <= 0.02 for share in shares),
        "unattributed_share_max": round(max(shares), 5),
        "client_measured_otherwise_ms_max": round(max(off), 2),
        "suffered_from_others_prefill": sum("interference" in one.latency.parts_ms for one in told),
    }


def _explained(state: ClusterState, asked: list[Asked]) -> list[Explanation]:
    time.sleep(_SPANS_ARRIVE_S)
    assert state.traces_file is not None
    file, asking = Path(state.traces_file), Asking(state.nats_url)
    return [explain_request(file, one.request_id, asking) for one in asked]
