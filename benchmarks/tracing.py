"""Throughput with tracing and without, of pairs of clusters that are asked in turn."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.usage import cpu_s as cpu_seconds

_PROMPT = "Tell me about the river that runs through the town, part {}."


@dataclass(frozen=True, slots=True)
class TracingPlan:
    """What to ask.

    Attributes:
        num_rounds: of each pair of clusters; which side goes first alternates.
        num_requests: of each side in a round.
        concurrency: of them at once.
    """

    num_rounds: int = 12
    num_requests: int = 16
    concurrency: int = 8
    max_tokens: int = 48


@dataclass(frozen=True, slots=True)
class Side:
    """A cluster: its address, and the processes whose CPU time counts, the trace store included."""

    url: str
    pids: Sequence[int]

    def cpu_s(self) -> float:
        """User and system time of all its processes so far."""
        return sum(cpu_seconds(pid) for pid in self.pids)


@dataclass(frozen=True, slots=True)
class Half:
    """What one pair of clusters did; each figure by side, `on` or `off`, in order of the rounds."""

    tokens_per_s: dict[str, list[float]]
    cpu_ms_per_token: dict[str, list[float]]

    def ratios(self) -> list[float]:
        """Throughput with tracing by that without, of each round."""
        rates = self.tokens_per_s
        return [on / off for on, off in zip(rates["on"], rates["off"], strict=True)]

    def cpu_ratio(self) -> float:
        """The same of the median CPU times."""
        by_side = self.cpu_ms_per_token
        return statistics.median(by_side["on"]) / statistics.median(by_side["off"])


def compare_tracing(on: Side, off: Side, model: str, plan: TracingPlan) -> Half:
    """Asks both sides in turn."""
    return asyncio.run(_compare(on, off, model, plan))


def sum_up(halves: Sequence[Half]) -> dict[str, Any]:
    """One figure of several pairs of clusters.

    Two clusters that do the same differ by some percent for as long as they live, so that each
    side is to be started first in as many pairs.

    Returns:
        tokens/s of each round, and the share of throughput that tracing costs: one less the
        geometric mean of the halves' median ratios. Negative if tracing was faster, which is noise.
        And the same of the CPU time of a token, idle time of a side's cluster included, which on a
        shared machine is the steadier figure.
    """
    medians = [statistics.median(half.ratios()) for half in halves]
    all_ratios = [ratio for half in halves for ratio in half.ratios()]
    spread = statistics.quantiles(all_ratios, n=4)
    found: dict[str, Any] = {
        "rounds": len(all_ratios),
        "cost_share": round(1 - statistics.geometric_mean(medians), 4),
        "cost_share_of_pairs": [round(1 - median, 4) for median in medians],
        "cost_share_quartiles": [round(1 - spread[2], 4), round(1 - spread[0], 4)],
        "cpu_cost_share": round(statistics.geometric_mean(h.cpu_ratio() for h in halves) - 1, 4),
        "cpu_cost_share_of_pairs": [round(half.cpu_ratio() - 1, 4) for half in halves],
    }
    for side in ("on", "off"):
        rates = [rate for half in halves for rate in half.tokens_per_s[side]]
        cpu_ms = [ms for half in halves for ms in half.cpu_ms_per_token[side]]
        found[f"tokens_per_s_{side}"] = [round(rate, 1) for rate in rates]
        found[f"median_{side}"] = round(statistics.median(rates), 1)
        found[f"cpu_ms_per_token_{side}"] = round(statistics.median(cpu_ms), 3)
    return found


async def _compare(on: Side, off: Side, model: str, plan: TracingPlan) -> Half:
    sides = {"on": on, "off": off}
    half = Half({"on": [], "off": []}, {"on": [], "off": []})
    num_tokens = plan.num_requests * plan.max_tokens
    async with httpx.AsyncClient(timeout=300, trust_env=False) as client:
        for side in sides.values():
            await _tokens_per_s(client, side.url, model, plan)
        for idx in range(plan.num_rounds):
            order = ("on", "off") if idx % 2 == 0 else ("off", "on")
            # Of the whole round: what a run leaves to be exported may leave in the other's turn.
            before_s = {name: sides[name].cpu_s() for name in order}
            for name in order:
                rate = await _tokens_per_s(client, sides[name].url, model, plan)
                half.tokens_per_s[name].append(rate)
            for name in order:
                spent_s = sides[name].cpu_s() - before_s[name]
                half.cpu_ms_per_token[name].append(spent_s / num_tokens * 1000)
    return half


async def _tokens_per_s(
    client: httpx.AsyncClient, url: str, model: str, plan: TracingPlan
) -> float:
    room = asyncio.Semaphore(plan.concurrency)

    async def one(idx: int) -> int:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": _PROMPT.format(idx)}],
            "max_tokens": plan.max_tokens,
            "ignore_eos": True,
            "stream": True,
        }
        async with (
            room,
            client.stream("POST", f"{url}/v1/chat/completions", json=body) as reply,
        ):
            reply.raise_for_status()
            async for _ in reply.aiter_raw():
                pass
        return plan.max_tokens

    began_s = time.perf_counter()
    counts = await asyncio.gather(*(one(idx) for idx in range(plan.num_requests)))
    return sum(counts) / (time.perf_counter() - began_s)
