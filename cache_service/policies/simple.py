"""The policies that everybody knows: least recently used, least often used, time to live."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from cache_service.policies.leaves import LeafOrder
from services.core.blocks import BlockHash

_GONE_PER_BLOCK = 8
"""How many blocks that went are remembered for each that is here, at least."""


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

    def add_run(self, run: Sequence[BlockHash], parent_hash: BlockHash, now_s: float) -> None:
        """Enter as the warmest."""
        self._leaves.add_run(run, parent_hash, itertools.repeat(next(self._ticks)))

    def evict(self, num_blocks: int, now_s: float) -> list[BlockHash]:
        """The longest unused go."""
        return self._leaves.pop_lowest(num_blocks)

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """From the longest unused to the latest used."""
        return self._leaves.lowest_first()


class LfuPolicy:
    """Least often used first, with ageing: a use counts half after each half-life.

    Kept as the logarithm of the count in today's uses: an order that ageing does not change needs
    no ageing. Counts of blocks that went are remembered for a while: otherwise, where room is
    scarce, nothing would stay long enough to be known as often used. Source of the decayed count:
    LRFU, Lee et al. 2001.

    Args:
        half_life_s: after it a use counts half.
        min_gone: counts of blocks that went which are remembered in any case.
    """

    def __init__(self, half_life_s: float, *, min_gone: int = 16_384) -> None:
        self._half_life_s = half_life_s
        self._min_gone = min_gone
        self._leaves = LeafOrder()
        self._tick = 0
        self._counts: dict[BlockHash, float] = {}
        # Counts of blocks that are not here, the first to be forgotten first.
        self._gone: dict[BlockHash, float] = {}

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Its blocks count one more use."""
        self._tick += 1
        now = now_s / self._half_life_s
        counts, gone, leaves = self._counts, self._gone, self._leaves
        for block_hash in chain:
            count = counts.get(block_hash)
            if count is not None:
                count = counts[block_hash] = _one_more(count, now)
                leaves.rerank(block_hash, (count, self._tick))
            else:
                count = gone.pop(block_hash, None)
                gone[block_hash] = now if count is None else _one_more(count, now)
        max_gone = max(self._min_gone, _GONE_PER_BLOCK * len(counts))
        while len(gone) > max_gone:
            del gone[next(iter(gone))]

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Enters with the uses that are known of it, or one."""
        count = self._gone.pop(block_hash, None)
        if count is None:
            count = now_s / self._half_life_s
        self._counts[block_hash] = count
        self._leaves.add(block_hash, parent_hash, (count, self._tick))

    def remove(self, block_hash: BlockHash) -> None:
        """Leaves the order; its count is remembered for a while."""
        self._leaves.remove(block_hash)
        self._gone[block_hash] = self._counts.pop(block_hash)

    def add_run(self, run: Sequence[BlockHash], parent_hash: BlockHash, now_s: float) -> None:
        """Enter with the uses that are known of them, or one."""
        now, pop = now_s / self._half_life_s, self._gone.pop
        counts = [pop(block_hash, now) for block_hash in run]
        self._counts.update(zip(run, counts, strict=True))
        self._leaves.add_run(run, parent_hash, zip(counts, itertools.repeat(self._tick)))

    def evict(self, num_blocks: int, now_s: float) -> list[BlockHash]:
        """The least often used go."""
        gone = self._leaves.pop_lowest(num_blocks)
        for block_hash in gone:
            self._gone[block_hash] = self._counts.pop(block_hash)
        return gone

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """From the least often used on; the longest unused first among equals."""
        return self._leaves.lowest_first()


def _one_more(count: float, now: float) -> float:
    return now + math.log2(1 + 2.0 ** (count - now))


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
