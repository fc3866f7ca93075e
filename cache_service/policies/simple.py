"""The policies that everybody knows: least recently used, least often used, time to live."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from cache_service.policies.leaves import LeafOrder
from services.core.blocks import BlockHash


class LruPolicy:
    """Least recently used first."""

    def __init__(self) -> None:
        self._leaves = LeafOrder()
        self._ticks = itertools.count()

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Its blocks become the warmest."""
        tick = next(self._ticks)
        for block_hash in chain:
            if block_hash in self._leaves:
                self._leaves.rerank(block_hash, tick)

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Enters as the warmest."""
        self._leaves.add(block_hash, parent_hash, next(self._ticks))

    def remove(self, block_hash: BlockHash) -> None:
        """Leaves the order."""
        self._leaves.remove(block_hash)

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """From the longest unused to the latest used."""
        return self._leaves.lowest_first()


class LfuPolicy:
    """Least often used first, with ageing: a use counts half after each half-life.

    Kept as the logarithm of the count in today's uses: an order that ageing does not change needs
    no ageing. Source of the decayed count: LRFU, Lee et al. 2001.
    """

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._leaves = LeafOrder()
        self._ticks = itertools.count()

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Its blocks count one more use."""
        tick, now = next(self._ticks), now_s / self._half_life_s
        for block_hash in chain:
            if block_hash in self._leaves:
                count, _ = self._leaves.rank_of(block_hash)
                self._leaves.rerank(block_hash, (now + math.log2(1 + 2 ** (count - now)), tick))

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Enters with one use."""
        rank = (now_s / self._half_life_s, next(self._ticks))
        self._leaves.add(block_hash, parent_hash, rank)

    def remove(self, block_hash: BlockHash) -> None:
        """Leaves the order, and its count is forgotten."""
        self._leaves.remove(block_hash)

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """From the least often used on; the longest unused first among equals."""
        return self._leaves.lowest_first()


class TtlPolicy:
    """What expires first goes first: a block lives for `ttl_s` after it was last used.

    Expired blocks go at the next sweep, whether room is needed or not.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._leaves = LeafOrder()
        self._ticks = itertools.count()

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Its blocks live on."""
        rank = (now_s + self._ttl_s, next(self._ticks))
        for block_hash in chain:
            if block_hash in self._leaves:
                self._leaves.rerank(block_hash, rank)

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Its life begins."""
        self._leaves.add(block_hash, parent_hash, (now_s + self._ttl_s, next(self._ticks)))

    def remove(self, block_hash: BlockHash) -> None:
        """Leaves the order."""
        self._leaves.remove(block_hash)

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """From the first to expire to the last."""
        return self._leaves.lowest_first()
