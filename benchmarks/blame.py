"""Requests to be explained: each with a delay of its own on its way, and a mixed load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.runtime import faults

BLAMED: Mapping[str, frozenset[str]] = {
    faults.TOKENIZE: frozenset({"tokenizing"}),
    faults.QUEUE: frozenset({"queue_wait"}),
    faults.PLACE: frozenset({"placement"}),
    faults.CACHE: frozenset({"kv_load"}),
    faults.STEP: frozenset({"decode", "prefill"}),
    faults.WRITE: frozenset({"client_backpressure"}),
}
"""Point of delay to the parts that may be blamed for it."""

# Places that a request passes at every token are made slow by little each time.
_MANY_TIMES = {faults.STEP: 8, faults.WRITE: 8}
_NUM_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """An answered request; client_ms: until its client had the last byte."""

    request_id: str
    client_ms: float


def ask_slowed(
    url: str, model: str, faults_file: Path, *, point: str, delay_s: float, num_requests: int
) -> list[Asked]:
    """Requests one after the other, each slow in one place."""

    async def ask_all() -> list[Asked]:
        async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
            return [
                # Each with a prompt of its own, of blocks that no cache holds.
                await _ask(client, url, model, f"{point} {idx} " * 30, _NUM_TOKENS)
                for idx in range(num_requests)
            ]

    faults_file.write_text(f"{point} {delay_s / _MANY_TIMES.get(point, 1)}\n")
    try:
        return asyncio.run(ask_all())
    finally:
        faults_file.write_text("")


async def ask_mixed(url: str, model: str, *, num_requests: int, concurrency: int) -> list[Asked]:
    """Short and long prompts, some shared, short and long answers, beside each other."""
    room = asyncio.Semaphore(concurrency)
    async with httpx.AsyncClient(timeout=300, trust_env=False) as client:

        async def one(idx: int) -> Asked:
            num_words = (20, 80, 300, 600)[idx % 4]
            text = "The river runs through the old town. " * (num_words // 8)
            async with room:
                return await _ask(client, url, model, f"Part {idx // 3}. {text}", 8 + 8 * (idx % 5))

        return list(await asyncio.gather(*(one(idx) for idx in range(num_requests))))


async def _ask(
    client: httpx.AsyncClient, url: str, model: str, prompt: str, max_tokens: int
) -> Asked:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stream": True,
    }
    started_s = time.perf_counter()
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        async for _ in reply.aiter_raw():
            pass
    return Asked(reply.headers["x-request-id"], (time.perf_counter() - started_s) * 1000)
