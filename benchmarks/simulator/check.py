"""The simulator against what it simulates: the same arrivals, on both."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.load_client import Reply
from benchmarks.serve import Failure, LoadPlan
from benchmarks.simulator.cluster import Cluster, ClusterShape
from benchmarks.simulator.runs import capacity_rps
from benchmarks.simulator.trace import TraceRequest
from services.core.percentile import percentile

Load = Callable[[LoadPlan], Awaitable[tuple[Sequence[Reply | Failure], float]]]
"""Puts a load on the real cluster; see `benchmarks.serve.load_server`."""

NUM_ALONE = 8
"""Requests that meet an idle cluster: what they take beyond their steps is the way through it."""

HOPS_TO_FIRST_TOKEN = 2
"""Of the simulated cluster: to the worker, and back."""

_MS = 1000.0


class CheckFailed(Exception):
    """The real cluster did not answer everything, so there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class _Run:
    """One load once."""

    replies: list[Reply]
    wall_s: float


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """How much is compared.

    Attributes:
        loads: shares of what the simulator says that the cluster can carry; above 1 a queue builds.
        num_requests: of each load in each round.
        num_rounds: with other arrivals; medians over them are compared.
    """

    loads: tuple[float, ...] = (0.5, 0.8, 2.0)
    num_requests: int = 40
    num_rounds: int = 1
    max_tokens: int = 32
    seed: int = 0


async def check(load: Load, shape: ClusterShape, plan: CheckPlan) -> dict[str, Any]:
    """Measures each load on the real cluster, simulates the same arrivals, and compares.

    Args:
        load: of the real cluster.
        shape: what stands for it; its `hop_s` is measured here, on the idle cluster.
        plan: how much.

    Returns:
        For each load the medians over the rounds, of both, and the errors of the simulated ones.

    Raises:
        CheckFailed: a request had no answer, so there is nothing to compare.
    """
    alone = await _lone(load, plan)
    settled = replace(shape, hop_s=hop_s(alone, shape))
    carried_rps = capacity_rps(settled, _as_trace(alone, plan.max_tokens) * NUM_ALONE)
    runs: dict[float, list[_Run]] = {share: [] for share in plan.loads}
    for round_idx in range(plan.num_rounds):
        for share in plan.loads:
            open_loop = LoadPlan(
                num_requests=plan.num_requests,
                rate_per_s=share * carried_rps,
                max_tokens=plan.max_tokens,
                seed=plan.seed + round_idx,
            )
            outcomes, wall_s = await load(open_loop)
            runs[share].append(_Run(_answered(outcomes), wall_s))
        # A machine that others use is not as fast at the end as it was at the beginning.
        alone += await _lone(load, plan)
    settled = replace(shape, hop_s=hop_s(alone, shape))
    compared = {
        f"{share:g}": {"rate_per_s": round(share * carried_rps, 3), **_compare(of_share, settled)}
        for share, of_share in runs.items()
    }
    return {
        "loads": compared,
        "worst_error": max(
            abs(error) for cell in compared.values() for error in cell["error"].values()
        ),
        "hop_ms": round(settled.hop_s * _MS, 3),
        "carried_rps": round(carried_rps, 3),
    }


def _compare(runs: Sequence[_Run], shape: ClusterShape) -> dict[str, Any]:
    measured: list[dict[str, float]] = []
    simulated: list[dict[str, float]] = []
    for run in runs:
        measured.append(_figures([reply.event_s[0] for reply in run.replies], run.wall_s))
        began = min(reply.began for reply in run.replies)
        trace = [replace(r, arrival_s=r.arrival_s - began) for r in _as_trace(run.replies)]
        outcome = Cluster(shape, sorted(trace, key=lambda r: r.arrival_s)).run()
        simulated.append(_figures([answer.ttft_s for answer in outcome.answered], outcome.ended_s))
    real, ours = _medians(measured), _medians(simulated)
    error = {name: round(ours[name] / real[name] - 1, 4) for name in real}
    return {"measured": real, "simulated": ours, "error": error}


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


async def _lone(load: Load, plan: CheckPlan) -> list[Reply]:
    """Requests one after the other."""
    one_by_one = LoadPlan(num_requests=NUM_ALONE, concurrency=1, max_tokens=2, seed=plan.seed)
    return _answered((await load(one_by_one))[0])


def hop_s(alone: Sequence[Reply], shape: ClusterShape) -> float:
    """One message from process to process: half of what a lone request takes beyond its steps."""
    bare = replace(shape, hop_s=0.0)
    beyond_s: list[float] = []
    for reply, request in zip(alone, _as_trace(alone), strict=True):
        (answer,) = Cluster(bare, [replace(request, arrival_s=0.0)]).run().answered
        beyond_s.append(reply.event_s[0] - answer.ttft_s)
    return max(0.0, percentile(beyond_s, 0.5) / HOPS_TO_FIRST_TOKEN)


def _answered(outcomes: Sequence[Reply | Failure]) -> list[Reply]:
    replies = [outcome for outcome in outcomes if isinstance(outcome, Reply) and outcome.event_s]
    if len(replies) < len(outcomes):
        kinds = sorted({o.kind for o in outcomes if isinstance(o, Failure)}) or ["empty answer"]
        raise CheckFailed(
            f"{len(outcomes) - len(replies)} of {len(outcomes)} requests had no answer:"
            f" {', '.join(kinds)}"
        )
    return replies


def _as_trace(replies: Sequence[Reply], num_output: int | None = None) -> list[TraceRequest]:
    """The requests behind replies, as they were sent; no prompt begins like another."""
    return [
        TraceRequest(reply.began, reply.prompt_tokens, num_output or reply.output_tokens, ())
        for reply in replies
    ]


def _figures(ttft_s: Sequence[float], wall_s: float) -> dict[str, float]:
    return {
        "ttft_ms_p50": round(percentile(ttft_s, 0.5) * _MS, 2),
        "ttft_ms_p90": round(percentile(ttft_s, 0.9) * _MS, 2),
        "requests_per_s": round(len(ttft_s) / wall_s, 4),
    }
