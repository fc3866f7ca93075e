"""Throughput with tracing and without, of two clusters that are asked in turn."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any

import httpx

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


def compare_tracing(on_url: str, off_url: str, model: str, plan: TracingPlan) -> dict[str, Any]:
    """Asks both sides in turn.

    Returns:
        tokens/s of each round, their medians, and the share of throughput that tracing costs: one
        less the median of the rounds' ratios. Negative if tracing was faster, which is noise.
    """
    return asyncio.run(_compare(on_url, off_url, model, plan))


async def _compare(on_url: str, off_url: str, model: str, plan: TracingPlan) -> dict[str, Any]:
    sides = {"on": on_url, "off": off_url}
    rates: dict[str, list[float]] = {"on": [], "off": []}
    async with httpx.AsyncClient(timeout=300, trust_env=False) as client:
        for url in sides.values():
            await _tokens_per_s(client, url, model, plan)
        for idx in range(plan.num_rounds):
            order = ("on", "off") if idx % 2 == 0 else ("off", "on")
            for side in order:
                rates[side].append(await _tokens_per_s(client, sides[side], model, plan))
    ratios = [on / off for on, off in zip(rates["on"], rates["off"], strict=True)]
    spread = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return {
        "rounds": plan.num_rounds,
        "tokens_per_s_on": [round(rate, 1) for rate in rates["on"]],
        "tokens_per_s_off": [round(rate, 1) for rate in rates["off"]],
        "median_on": round(statistics.median(rates["on"]), 1),
        "median_off": round(statistics.median(rates["off"]), 1),
        "cost_share": round(1 - statistics.median(ratios), 4),
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
