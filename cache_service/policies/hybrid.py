"""Keeps what those policies keep that would have hit most of late."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cache_service.policies.leaves import LeafOrder
from cache_service.policies.port import EvictionPolicy
from cache_service.policies.reuse import ReusePolicy
from cache_service.policies.shadow import Shadow
from cache_service.policies.simple import LfuPolicy, LruPolicy
from services.core.blocks import BlockHash

_LUCK_HITS, _LUCK_SHARE = 60.0, 0.005
"""An expert that is behind the best by so many hits, or by so much of the best one's, has 1/e of a
voice. With less luck decides who is heard; with more the worse outvote the better."""

_FULL_VOICE = 16
_MIN_REWEIGH, _RANKED_PER_REQUEST = 32, 256
"""Voices are worked out anew after so many requests, or so many that not more blocks than this are
ranked anew for each."""

_SHORTER = 3.0
"""A second frequency fades so much sooner: how long popularity lasts is a workload's own."""

_MEMORY_CAPACITIES = 8.0
"""A hit counts 1/e after so many capacities' worth of blocks were asked for."""

_MIN_MEMORY_BLOCKS = 65_536
"""Or so many: a small store sees too few requests in its capacities to tell skill from luck."""

_MAX_ANNOUNCED = 65_536
_MAX_CAPACITY = 1 << 20
"""Of an expert while the store has room: what is asked for may never come."""

_VOICE = 1 << 56
"""Rank of one part of a voice; below it are ticks, one for each request or block."""


@dataclass(slots=True)
class _Expert:
    """One policy.

    Attributes:
        share: of a full voice that it has when it is the best.
        score: hits of late.
        voice: what its word counts, in parts of _FULL_VOICE.
    """

    shadow: Shadow
    share: float
    score: float = 0.0
    voice: int = 0


class _HeardOrder(LeafOrder):
    """By the voices that speak for a block, then the longest unused first.

    What is noted of a block is the tick of its last use; voices are added up when it is asked for.
    """

    def __init__(self, experts: Sequence[_Expert]) -> None:
        super().__init__()
        self._experts = experts

    def rank_of(self, block_hash: BlockHash) -> int:
        """Its rank now."""
        voices = 0
        for expert in self._experts:
            if block_hash in expert.shadow.held:
                voices += expert.voice
        return self._ranks[block_hash] + voices * _VOICE


class HybridPolicy:
    """Keeps what the experts keep, each heard by how much it would have hit of late.

    Each expert (recency, learned reuse, frequency that fades slowly and quickly) runs on the same
    requests as a shadow of the same size, without bytes. A block's rank is the sum of the voices of
    the experts that keep it. Far behind the best an expert has none; the two frequencies share one.
    """

    def __init__(self, lfu_half_life_s: float) -> None:
        policies: list[tuple[EvictionPolicy, float]] = [
            (LruPolicy(), 1.0),
            (ReusePolicy(), 1.0),
            (LfuPolicy(lfu_half_life_s), 0.5),
            (LfuPolicy(lfu_half_life_s / _SHORTER, min_gone=_MIN_MEMORY_BLOCKS), 0.5),
        ]
        self._experts = [
            _Expert(Shadow(policy, _MAX_CAPACITY), share) for policy, share in policies
        ]
        self._leaves = _HeardOrder(self._experts)
        self._ticks = itertools.count()
        self._num_requests = 0
        # That the experts have been trimmed to; 0: they are to be looked at.
        self._capacity = 0
        # Named by a request: the experts have heard of them before they come.
        self._announced: set[BlockHash] = set()
        self._weigh()

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Lets every expert serve the request, and hears them."""
        memory = max(_MIN_MEMORY_BLOCKS, _MEMORY_CAPACITIES * self._experts[0].shadow.capacity)
        fade = max(0.0, 1 - len(chain) / memory)
        for expert in self._experts:
            access = expert.shadow.access(chain, now_s)
            expert.score = expert.score * fade + access.num_hits
            if expert.voice:
                self._leaves.changed(access.evicted)
        self._num_requests += 1
        if self._num_requests >= self._weigh_at:
            self._weigh()
        leaves, tick = self._leaves, next(self._ticks)
        for block_hash in chain:
            if block_hash in leaves:
                leaves.rerank(block_hash, tick)
            else:
                self._announced.add(block_hash)
        if len(self._announced) > _MAX_ANNOUNCED:
            self._announced.clear()

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Takes it; experts that have not heard of it take it as well."""
        if block_hash in self._announced:
            self._announced.discard(block_hash)
        else:
            self._capacity = 0
            for expert in self._experts:
                if block_hash not in expert.shadow.held:
                    expert.shadow.add(block_hash, parent_hash, now_s)
        self._leaves.add(block_hash, parent_hash, next(self._ticks))

    def remove(self, block_hash: BlockHash) -> None:
        """Leaves the order. The experts go their own way."""
        self._leaves.remove(block_hash)

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """First what the fewest keep; the longest unused first among equals."""
        # One goes now: the room of an expert is what then is left.
        capacity = max(1, len(self._leaves) - 1)
        if capacity != self._capacity:
            self._capacity = capacity
            for expert in self._experts:
                expert.shadow.capacity = capacity
                evicted = expert.shadow.trim(now_s)
                if expert.voice:
                    self._leaves.changed(evicted)
        return self._leaves.lowest_first()

    def _weigh(self) -> None:
        pause = max(_MIN_REWEIGH, len(self._leaves) // _RANKED_PER_REQUEST)
        self._weigh_at = self._num_requests + pause
        best = max(expert.score for expert in self._experts)
        luck = max(_LUCK_HITS, _LUCK_SHARE * best)
        before = [expert.voice for expert in self._experts]
        for expert in self._experts:
            share = expert.share * math.exp((expert.score - best) / luck)
            expert.voice = round(_FULL_VOICE * share)
        if before != [expert.voice for expert in self._experts]:
            self._leaves.changed(self._leaves)
