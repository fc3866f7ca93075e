"""What batching gains: requests one at a time against so many at once, through a whole cluster."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load_client import Reply
from benchmarks.serve import Failure, LoadPlan
from services.core.percentile import percentile

Load = Callable[[LoadPlan], Awaitable[tuple[Sequence[Reply | Failure], float]]]
"""Puts a load on the cluster; see `benchmarks.serve.load_server`."""

WANTED_GAIN, WANTED_LATENCY = 6.0, 1.2
"""What a batch of 8 is held against: times the requests per second, times the latency."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MIN_REQUESTS = 6


@dataclass(frozen=True, slots=True)
class BatchingPlan:
    """How much is measured.

    Attributes:
        sizes: requests at once; the first is what the others are compared with.
        num_batches: of each size in each round; a size of 1 takes six requests at least.
        num_rounds: the sizes take turns, in another order each time; medians count.
        max_tokens: length of each answer.
    """

    sizes: tuple[int, ...] = (1, 8, 16, 32)
    num_batches: int = 2
    num_rounds: int = 3
    max_tokens: int = 32


@dataclass(frozen=True, slots=True)
class Machine:
    """What a worker's figures are shares of.

    Attributes:
        worker_pid: of the only worker.
        num_cpus: that it may use.
        peak_op_per_s: of a large product of matrices in the precision of the model.
        op_per_prompt_token, op_per_output_token: of the model.
    """

    worker_pid: int
    num_cpus: int
    peak_op_per_s: float
    op_per_prompt_token: float
    op_per_output_token: float


class BatchingFailed(Exception):
    """A request had no answer."""


async def measure_batching(load: Load, machine: Machine, plan: BatchingPlan) -> dict[str, Any]:
    """Loads a cluster with each batch size in turn.

    Returns:
        By size: requests_per_s, latency_ms_p50, utilisation (of the machine's arithmetic),
        cpu_share (of its CPUs, by the worker). `gain`: of each size against the first.

    Raises:
        BatchingFailed: a request had no answer, so there is nothing to compare.
    """
    rounds: dict[int, list[dict[str, float]]] = {size: [] for size in plan.sizes}
    for round_idx in range(plan.num_rounds):
        for size in plan.sizes if round_idx % 2 == 0 else plan.sizes[::-1]:
            rounds[size].append(await _one(load, machine, plan, size))
    figures = {
        size: {name: round(statistics.median(r[name] for r in of_size), 4) for name in of_size[0]}
        for size, of_size in rounds.items()
    }
    alone = figures[plan.sizes[0]]
    return {
        **{str(size): of_size for size, of_size in figures.items()},
        "gain": {
            str(size): {
                "requests_per_s": round(of_size["requests_per_s"] / alone["requests_per_s"], 2),
                "latency": round(of_size["latency_ms_p50"] / alone["latency_ms_p50"], 2),
            }
            for size, of_size in figures.items()
        },
        "wanted_of_8": {"requests_per_s": WANTED_GAIN, "latency": WANTED_LATENCY},
    }


def as_table(result: Mapping[str, Any]) -> str:
    """The result for people."""
    lines = [f"{'at once':>8}{'requests/s':>12}{'latency p50':>13}{'arithmetic':>12}{'CPU':>7}"]
    for size, gain in result["gain"].items():
        one = result[size]
        lines.append(
            f"{size:>8}{one['requests_per_s']:12.2f}{one['latency_ms_p50']:10.0f} ms"
            f"{one['utilisation']:12.1%}{one['cpu_share']:7.0%}"
            f"   {gain['requests_per_s']:.2f}x at {gain['latency']:.2f}x the latency"
        )
    wanted = result["wanted_of_8"]
    lines.append(f"wanted of 8: {wanted['requests_per_s']:g}x at {wanted['latency']:g}x")
    return "\n".join(lines)


async def _one(load: Load, machine: Machine, plan: BatchingPlan, size: int) -> dict[str, float]:
    requests = LoadPlan(
        num_requests=max(_MIN_REQUESTS, plan.num_batches * size),
        concurrency=size,
        max_tokens=plan.max_tokens,
        num_warm_up=1,
    )
    cpu_s, began_s = _cpu_s(machine.worker_pid), time.perf_counter()
    outcomes, wall_s = await load(requests)
    # The warm-up is in the CPU's time, so its time counts too.
    whole_s, cpu_s = time.perf_counter() - began_s, _cpu_s(machine.worker_pid) - cpu_s
    replies = [one for one in outcomes if isinstance(one, Reply)]
    if len(replies) < len(outcomes):
        kinds = sorted({one.kind for one in outcomes if isinstance(one, Failure)})
        raise BatchingFailed(f"{len(outcomes) - len(replies)} requests failed: {', '.join(kinds)}")
    num_prompt = sum(reply.prompt_tokens - reply.cached_tokens for reply in replies)
    num_output = sum(reply.output_tokens for reply in replies)
    op = num_prompt * machine.op_per_prompt_token + num_output * machine.op_per_output_token
    return {
        "requests_per_s": len(replies) / wall_s,
        "latency_ms_p50": 1000 * percentile([reply.ended_s for reply in replies], 0.5),
        "utilisation": op / wall_s / machine.peak_op_per_s,
        "cpu_share": cpu_s / whole_s / machine.num_cpus,
        "output_tokens_per_s": num_output / wall_s,
    }


def _cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
