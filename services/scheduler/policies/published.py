"""Policies of other systems, by their published formulas, to compare with."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.order import HeldRequest
from services.scheduler.placement import Candidate, Placement, least_loaded

BALANCE_ABS, BALANCE_REL = 32, 1.5
"""Requests more than on the emptiest worker, and times as many, from which affinity gives way."""

MIN_MATCH_SHARE = 0.1
"""A shorter match is no reason to go anywhere."""

PREFIX_WEIGHT, QUEUE_WEIGHT, KV_WEIGHT = 3.0, 2.0, 2.0


class PrefixAffinity:
    """The longest cached prefix, unless the fleet is out of balance.

    Source: the cache-aware routers of SGLang and Ray Serve LLM.
    """

    def __init__(self, index: KvIndex) -> None:
        self._index = index

    def choose(
        self, entry: HeldRequest, candidates: Sequence[Candidate], now_s: float
    ) -> Placement | None:
        """The best match with room, the least loaded if there is none worth it."""
        free = [candidate for candidate in candidates if candidate.num_free > 0]
        if not free:
            return None
        found = self._index.match(entry.block_hashes)
        counts = [candidate.num_requests for candidate in candidates]
        is_balanced = (
            max(counts) - min(counts) <= BALANCE_ABS or max(counts) <= min(counts) * BALANCE_REL
        )
        best = max(
            free,
            key=lambda candidate: (
                found.get(candidate.worker_id, 0),
                -candidate.load,
                -candidate.placed_idx,
            ),
        )
        num_found = found.get(best.worker_id, 0)
        if not is_balanced or num_found < MIN_MATCH_SHARE * max(1, len(entry.block_hashes)):
            best = least_loaded(free) or best
        return Placement(best, _missing(entry, best, found))


class DynamoCost:
    """Blocks to prefill plus blocks to decode, the least of them; equals go to a random one.

    Source: NVIDIA Dynamo's KV router, prefill_load_scale 1, temperature 0.
    """

    def __init__(self, index: KvIndex, seed: int = 0) -> None:
        self._index = index
        self._random = random.Random(seed)

    def choose(
        self, entry: HeldRequest, candidates: Sequence[Candidate], now_s: float
    ) -> Placement | None:
        """The cheapest with room, or None."""
        found = self._index.match(entry.block_hashes)

        def cost(candidate: Candidate) -> float:
            missing = _missing(entry, candidate, found)
            prefill_blocks = (candidate.num_prefill_tokens + missing) / candidate.block_size
            decode_blocks = candidate.num_blocks - candidate.num_free_blocks
            return prefill_blocks + decode_blocks + missing / candidate.block_size

        return _least(entry, candidates, found, cost, self._random)


class LlmdScorer:
    """Weighted scores for prefix, queue and K/V room, the highest sum; equals at random.

    Source: llm-d's router with the weights that it recommends: 3, 2, 2.
    """

    def __init__(self, index: KvIndex, seed: int = 0) -> None:
        self._index = index
        self._random = random.Random(seed)

    def choose(
        self, entry: HeldRequest, candidates: Sequence[Candidate], now_s: float
    ) -> Placement | None:
        """The best scored with room, or None."""
        found = self._index.match(entry.block_hashes)
        num_blocks = max(1, len(entry.block_hashes))
        queues = [candidate.num_waiting for candidate in candidates]
        longest, shortest = max(queues, default=0), min(queues, default=0)
        spread = max(1, longest - shortest)

        def cost(candidate: Candidate) -> float:
            prefix = found.get(candidate.worker_id, 0) / num_blocks
            queue = 1.0 if longest == shortest else (longest - candidate.num_waiting) / spread
            room = candidate.num_free_blocks / max(1, candidate.num_blocks)
            return -(PREFIX_WEIGHT * prefix + QUEUE_WEIGHT * queue + KV_WEIGHT * room)

        return _least(entry, candidates, found, cost, self._random)


def _missing(entry: HeldRequest, candidate: Candidate, found: dict[str, int]) -> int:
    num_found = found.get(candidate.worker_id, 0) * candidate.block_size
    return max(1, entry.num_prompt_tokens - num_found)


def _least(
    entry: HeldRequest,
    candidates: Sequence[Candidate],
    found: dict[str, int],
    cost: Callable[[Candidate], float],
    chance: random.Random,
) -> Placement | None:
    costs = [(cost(candidate), candidate) for candidate in candidates if candidate.num_free > 0]
    if not costs:
        return None
    least = min(value for value, _ in costs)
    best = chance.choice([candidate for value, candidate in costs if value == least])
    return Placement(best, _missing(entry, best, found))
