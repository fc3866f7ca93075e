"""Follows whichever policy would have hit most of late."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cache_service.policies.leaves import LeafOrder
from cache_service.policies.port import EvictionPolicy
from cache_service.policies.reuse import ReusePolicy
from cache_service.policies.shadow import Shadow
from cache_service.policies.simple import LfuPolicy, LruPolicy
from services.core.blocks import BlockHash

_LEAD_HITS, _LEAD_OF_CAPACITY, _MAX_LEAD_OF_CAPACITY = 24.0, 0.02, 100.0
"""What an expert must be ahead by, in hits: luck is no lead, and a change is paid with misses
until what the new leader keeps is here."""

_SHORTER = 3.0
"""A second frequency fades so much sooner: how long popularity lasts is a workload's own."""

_MEMORY_CAPACITIES = 8.0
"""A hit counts 1/e after so many capacities' worth of blocks were asked for."""

_MIN_MEMORY_BLOCKS = 65_536
"""Or so many: a small store sees too few requests in its capacities to tell skill from luck."""

_MAX_ANNOUNCED = 65_536
_MAX_CAPACITY = 1 << 20
"""Of an expert while the store has room: what is asked for may never come."""

_KEPT = 1 << 60
"""Added to the rank of what the leader keeps; ranks are ticks, one for each request or block."""


@dataclass(slots=True)
class _Expert:
    shadow: Shadow
    score: float = 0.0


class HybridPolicy:
    """Keeps what the leading expert keeps.

    Each expert (recency, learned reuse, frequency that fades slowly and quickly) runs on the same
    requests as a shadow of the same size, without bytes. The one with the most hits of late leads,
    recency to begin with, and what it does not keep goes first. So the hybrid is as good as the
    best expert, but for the time that it takes to see who that is.
    """

    def __init__(self, lfu_half_life_s: float) -> None:
        policies: list[EvictionPolicy] = [
            LruPolicy(),
            ReusePolicy(),
            LfuPolicy(lfu_half_life_s),
            LfuPolicy(lfu_half_life_s / _SHORTER, min_gone=_MIN_MEMORY_BLOCKS),
        ]
        self._experts = [_Expert(Shadow(policy, _MAX_CAPACITY)) for policy in policies]
        self._leader = self._experts[0]
        # Rank: what the leader keeps goes last; then the longest unused first.
        self._leaves = LeafOrder()
        self._ticks = itertools.count()
        # Named by a request: the experts have heard of them before they come.
        self._announced: set[BlockHash] = set()

    @property
    def leader(self) -> EvictionPolicy:
        """The expert that is followed now."""
        return self._leader.shadow.policy

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Lets every expert serve the request, and follows the best of them."""
        capacity = self._leader.shadow.capacity
        memory = max(_MIN_MEMORY_BLOCKS, _MEMORY_CAPACITIES * capacity)
        fade = max(0.0, 1 - len(chain) / memory)
        evicted: list[BlockHash] = []
        for expert in self._experts:
            access = expert.shadow.access(chain, now_s)
            expert.score = expert.score * fade + access.num_hits
            if expert is self._leader:
                evicted = access.evicted
        self._rerank(evicted)
        leaves, held, tick = self._leaves, self._leader.shadow.held, next(self._ticks)
        for block_hash in chain:
            if block_hash in leaves:
                leaves.rerank(block_hash, tick + _KEPT if block_hash in held else tick)
            else:
                self._announced.add(block_hash)
        if len(self._announced) > _MAX_ANNOUNCED:
            self._announced.clear()
        self._follow_the_best()

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Takes it; experts that have not heard of it take it as well."""
        if block_hash in self._announced:
            self._announced.discard(block_hash)
        else:
            for expert in self._experts:
                if block_hash not in expert.shadow.held:
                    expert.shadow.add(block_hash, parent_hash, now_s)
        self._leaves.add(block_hash, parent_hash, self._rank(block_hash, next(self._ticks)))

    def remove(self, block_hash: BlockHash) -> None:
        """Leaves the order. The experts go their own way."""
        self._leaves.remove(block_hash)

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """First what the leader does not keep; the longest unused first in both parts."""
        # One goes now: the room of an expert is what then is left.
        for expert in self._experts:
            expert.shadow.capacity = max(1, len(self._leaves) - 1)
        self._rerank(self._leader.shadow.trim(now_s))
        return self._leaves.lowest_first()

    def _follow_the_best(self) -> None:
        of_capacity = _LEAD_OF_CAPACITY * self._leader.shadow.capacity
        lead = _LEAD_HITS + min(_MAX_LEAD_OF_CAPACITY, of_capacity)
        best = max(self._experts, key=lambda expert: expert.score)
        if best.score > self._leader.score + lead:
            self._leader = best
            self._rerank(list(self._leaves))

    def _rerank(self, block_hashes: Iterable[BlockHash]) -> None:
        for block_hash in block_hashes:
            if block_hash in self._leaves:
                tick = self._leaves.rank_of(block_hash) % _KEPT
                self._leaves.rerank(block_hash, self._rank(block_hash, tick))

    def _rank(self, block_hash: BlockHash, tick: int) -> int:
        return tick + _KEPT if block_hash in self._leader.shadow.held else tick
