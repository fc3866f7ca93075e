"""Traces of other shapes than the public one, so that no policy is tuned to a single file."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

from benchmarks.simulator.trace import TRACE_BLOCK_SIZE, TraceRequest

PREFIX = "synthetic:"


def chat(num_requests: int = 6_000, seed: int = 1) -> list[TraceRequest]:
    """Conversations of some turns; every turn repeats all before it. People think in between."""
    chance, ids = random.Random(seed), itertools.count()
    system = [next(ids) for _ in range(2)]
    requests: list[TraceRequest] = []
    while len(requests) < num_requests:
        now_s = chance.uniform(0, 3600)
        prefix, num_tokens = list(system), len(system) * TRACE_BLOCK_SIZE
        for _ in range(1 + int(chance.expovariate(1 / 5))):
            num_tokens += _around(chance, 700)
            num_output = _around(chance, 350)
            requests.append(_request(now_s, num_tokens, num_output, prefix, ids))
            num_tokens += num_output
            now_s += 10 + chance.expovariate(1 / 45)
    return _sorted(requests, num_requests)


def system_prompts(num_requests: int = 6_000, seed: int = 2) -> list[TraceRequest]:
    """Long instructions of a few hundred applications, some far more used; short questions."""
    chance, ids = random.Random(seed), itertools.count()
    prompts = [[next(ids) for _ in range(chance.randint(8, 40))] for _ in range(300)]
    weights = [1 / rank for rank in range(1, len(prompts) + 1)]
    requests: list[TraceRequest] = []
    for _ in range(num_requests):
        prefix = list(chance.choices(prompts, weights)[0])
        num_tokens = len(prefix) * TRACE_BLOCK_SIZE + _around(chance, 500)
        arrival_s = chance.uniform(0, 1800)
        requests.append(_request(arrival_s, num_tokens, _around(chance, 200), prefix, ids))
    return _sorted(requests, num_requests)


def agents(num_requests: int = 6_000, seed: int = 3) -> list[TraceRequest]:
    """Agents in bursts: many quick calls, each with all before it, from one long beginning."""
    chance, ids = random.Random(seed), itertools.count()
    requests: list[TraceRequest] = []
    while len(requests) < num_requests:
        began_s = chance.uniform(0, 3600)
        shared = [next(ids) for _ in range(chance.randint(6, 20))]
        for _ in range(chance.randint(1, 8)):
            now_s = began_s + chance.uniform(0, 2)
            prefix, num_tokens = list(shared), len(shared) * TRACE_BLOCK_SIZE
            for _ in range(chance.randint(4, 20)):
                num_tokens += _around(chance, 900)
                num_output = _around(chance, 120)
                requests.append(_request(now_s, num_tokens, num_output, prefix, ids))
                num_tokens += num_output
                now_s += 3 + chance.expovariate(1 / 4)
    return _sorted(requests, num_requests)


SHAPES: dict[str, Callable[[], list[TraceRequest]]] = {
    "chat": chat,
    "system-prompts": system_prompts,
    "agents": agents,
}


def _request(
    arrival_s: float, num_tokens: int, num_output: int, prefix: list[int], ids: Iterator[int]
) -> TraceRequest:
    """A request over `prefix`, which grows by the blocks that the request fills."""
    while len(prefix) < num_tokens // TRACE_BLOCK_SIZE:
        prefix.append(next(ids))
    return TraceRequest(arrival_s, num_tokens, num_output, tuple(prefix))


def _around(chance: random.Random, mean: float) -> int:
    """A length with a long tail."""
    return max(1, min(int(8 * mean), int(chance.lognormvariate(0, 0.8) * mean * 0.72)))


def _sorted(requests: list[TraceRequest], num_requests: int) -> list[TraceRequest]:
    return sorted(requests, key=lambda request: request.arrival_s)[:num_requests]
