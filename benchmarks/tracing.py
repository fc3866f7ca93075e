"""Throughput with tracing and without, of two clusters that are asked in turn."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.usage import cpu_s as cpu_seconds

SPANS_LEAVE_S = 0.5
"""Longer than a local cluster waits before it exports spans."""

_PROMPT = "Tell me about the river that runs through the town, part {}."


@dataclass(frozen=True, slots=True)
class TracingPlan:
    """What to ask.

    Attributes:
        num_rounds: pairs; which side goes first alternates.
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


def compare_tracing(on: Side, off: Side, model: str, plan: TracingPlan) -> dict[str, Any]:
    """Asks both sides in turn.

    Returns:
        tokens/s of each round, their medians, and the share of throughput that tracing costs: one
        less the median of the rounds' ratios. Negative if tracing was faster, which is noise. And
        the CPU time of a token on each side, which on a shared machine is the steadier figure.
    """
    return asyncio.run(_compare(on, off, model, plan))


async def _compare(on: Side, off: Side, model: str, plan: TracingPlan) -> dict[str, Any]:
    sides = {"on": on, "off": off}
    rates: dict[str, list[float]] = {"on": [], "off": []}
    cpu_s: dict[str, list[float]] = {"on": [], "off": []}
    async with httpx.AsyncClient(timeout=300, trust_env=False) as client:
        for side in sides.values():
            await _tokens_per_s(client, side.url, model, plan)
        for idx in range(plan.num_rounds):
            order = ("on", "off") if idx % 2 == 0 else ("off", "on")
            for name in order:
                before_s = sides[name].cpu_s()
                rates[name].append(await _tokens_per_s(client, sides[name].url, model, plan))
                # What is told of a run comes a little after it.
                await asyncio.sleep(SPANS_LEAVE_S)
                cpu_s[name].append(sides[name].cpu_s() - before_s)
    num_tokens = plan.num_requests * plan.max_tokens
    cpu_ms = {name: statistics.median(of) / num_tokens * 1000 for name, of in cpu_s.items()}
    ratios = [on / off for on, off in zip(rates["on"], rates["off"], strict=True)]
    spread = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return {
        "rounds": plan.num_rounds,
        "tokens_per_s_on": [round(rate, 1) for rate in rates["on"]],
        "tokens_per_s_off": [round(rate, 1) for rate in rates["off"]],
        "median_on": round(statistics.median(rates["on"]), 1),
        "median_off": round(statistics.median(rates["off"]), 1),
        "cost_share": round(1 - statistics.median(ratios), 4),
        "cpu_ms_per_token_on": round(cpu_ms["on"], 3),
        "cpu_ms_per_token_off": round(cpu_ms["off"], 3),
        "cpu_cost_share": round(cpu_ms["on"] / cpu_ms["off"] - 1, 4),
        "cost_share_quartiles": [round(1 - spread[2], 4), round(1 - spread[0], 4)],
    }


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
