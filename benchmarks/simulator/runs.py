"""Several policies on one trace, side by side on the cores of this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.simulator.cluster import Cluster, ClusterShape
from benchmarks.simulator.report import Slo, summarise
from benchmarks.simulator.synthetic import PREFIX, SHAPES
from benchmarks.simulator.trace import BadTrace, TraceRequest, at_rate, mean_rate, read_trace

SATURATION = 1.5
"""Times what the workers could do without any cached block: more than any policy can carry."""

_NO_DEADLINE_S = 1e9


@dataclass(frozen=True, slots=True)
class Plan:
    """One trace on one cluster.

    Attributes:
        trace: path of a file, or `synthetic:` and the name of a shape.
        requests_per_s: arrivals are moved to this rate; None leaves the trace's own.
        load: share of what `least-loaded` can carry, instead of a rate.
    """

    trace: str
    shape: ClusterShape
    requests_per_s: float | None = None
    load: float | None = None
    slo: Slo = field(default_factory=Slo)


def simulate(plan: Plan, policies: Sequence[str]) -> dict[str, Any]:
    """Runs each policy once.

    Returns:
        Figures by policy, the rate of arrivals, and the time that it took here.
    """
    began = time.perf_counter()
    requests_per_s = plan.requests_per_s
    capacity: float | None = None
    if plan.load is not None:
        capacity = capacity_rps(plan.shape, load_trace(plan.trace))
        requests_per_s = capacity * plan.load
    settled = replace(plan, requests_per_s=requests_per_s, load=None)
    num_processes = min(len(policies), os.cpu_count() or 1)
    if num_processes == 1:
        figures = [run_policy(settled, policy) for policy in policies]
    else:
        with ProcessPoolExecutor(num_processes) as executor:
            figures = list(executor.map(run_policy, [settled] * len(policies), policies))
    rate = mean_rate(_requests(settled))
    result: dict[str, Any] = {
        "policies": dict(zip(policies, figures, strict=True)),
        "requests_per_s": round(rate, 3),
        "workers": len(plan.shape.shapes),
        "blocks_per_worker": plan.shape.shapes[0].num_blocks,
        "wall_s": round(time.perf_counter() - began, 2),
    }
    if capacity is not None:
        result["least_loaded_capacity_rps"] = round(capacity, 3)
    return result


def load_trace(trace: str) -> list[TraceRequest]:
    """Requests of a file or of a synthetic shape.

    Raises:
        BadTrace: the file is no trace, or no shape has this name.
        OSError: the file cannot be read.
    """
    if not trace.startswith(PREFIX):
        return read_trace(Path(trace))
    make = SHAPES.get(trace.removeprefix(PREFIX))
    if make is None:
        raise BadTrace(f"no such shape; known: {', '.join(SHAPES)}")
    return make()


def capacity_rps(shape: ClusterShape, requests: Sequence[TraceRequest]) -> float:
    """Requests per second that leave a saturated cluster under `least-loaded`.

    The first and the last tenth of the answers do not count: the cluster fills and empties then.
    """
    tokens = sum(request.num_prompt for request in requests) / len(requests)
    model = shape.shapes[0].model
    bound = len(shape.shapes) / (tokens * model.prefill_s)
    saturated = replace(
        shape,
        policy="least-loaded",
        max_queued=len(requests),
        deadline_s=_NO_DEADLINE_S,
    )
    outcome = Cluster(saturated, at_rate(requests, SATURATION * bound)).run()
    ended = sorted(answer.request.arrival_s + answer.latency_s for answer in outcome.answered)
    first, last = len(ended) // 10, len(ended) - 1 - len(ended) // 10
    return (last - first) / max(1e-9, ended[last] - ended[first])


def _requests(plan: Plan) -> list[TraceRequest]:
    requests = load_trace(plan.trace)
    return requests if plan.requests_per_s is None else at_rate(requests, plan.requests_per_s)


def run_policy(plan: Plan, policy: str) -> dict[str, Any]:
    """Figures of one policy at the rate of the plan."""
    cluster = Cluster(replace(plan.shape, policy=policy), _requests(plan))
    return summarise(cluster.run(), plan.slo)
