"""`tokenmill bench gateway`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.children import ChildFailed
from benchmarks.gateway import StreamPlan, Target, measure_streams
from services.cli.failure import CommandFailed
from services.cli.own_cluster import own_cluster

_LOOPBACK = "127.0.0.1"


def gateway(plan: StreamPlan) -> dict[str, Any]:
    """Measures a gateway of its own, before one fake worker that holds all streams at once.

    Raises:
        CommandFailed: the cluster cannot be started, or the client breaks down.
    """
    os.environ.update(
        TOKENMILL_FAKE_STEP_TIME_S=str(plan.step_s),
        TOKENMILL_FAKE_PREFILL_S_PER_TOKEN="0",
        TOKENMILL_MAX_NUM_SEQS=str(plan.num_streams),
        TOKENMILL_MAX_BATCHED_TOKENS=str(max(2048, 16 * plan.num_streams)),
        TOKENMILL_NUM_BLOCKS=str(plan.num_streams * (plan.num_tokens // 32 + 3)),
        TOKENMILL_MAX_LIVE_REQUESTS=str(2 * plan.num_streams),
        # What is measured is the gateway, not the export of its spans nor the K/V cache.
        OTEL_SDK_DISABLED="true",
        TOKENMILL_PREFIX_CACHE="false",
    )
    with own_cluster(model=None, engine="fake", dtype=None) as state:
        entry = next(one for one in state.processes if one.role == "gateway")
        if entry.pid is None or entry.http_port is None:
            raise CommandFailed("the gateway did not start")
        others = {one.name: one.pid for one in state.processes if one.pid and one is not entry}
        target = Target(_LOOPBACK, entry.http_port, state.model_name, entry.pid, others)
        try:
            with tempfile.TemporaryDirectory() as scratch:
                return measure_streams(target, plan, Path(scratch) / "client.log")
        except ChildFailed as exc:
            raise CommandFailed(str(exc)) from exc
