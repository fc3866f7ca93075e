"""Policies of queues, which let newcomers go quickly: what others are compared with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from cache_service.policies.leaves import LeafOrder
from services.core.blocks import BlockHash

_SMALL_SHARE = 0.1
_MAX_FREQUENCY = 3


class SievePolicy:
    """A hand goes over blocks in order of arrival, spares the visited once, and takes the others.

    A leaf stands where it arrived; only leaves are looked at. Source: SIEVE, Zhang et al. 2024.
    """

    def __init__(self) -> None:
        # Rank: how often the hand will have gone round before it comes here, then arrival.
        self._leaves = LeafOrder()
        self._visited: set[BlockHash] = set()
        self._num_arrived = 0
        self._round, self._hand = 0, -1

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Marks what is here."""
        self._visited.update(block_hash for block_hash in chain if block_hash in self._leaves)

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Arrives, not visited."""
        self._num_arrived += 1
        self._leaves.add(block_hash, parent_hash, (self._round, self._num_arrived))

    def remove(self, block_hash: BlockHash) -> None:
        """The hand stays where it went."""
        self._round, self._hand = self._leaves.remove(block_hash)
        self._visited.discard(block_hash)

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """The next that the hand takes; then the others as it would meet them."""
        first = self._pass_visited()
        if first is not None:
            yield first
            yield from (block for block in self._leaves.lowest_first() if block != first)

    def _pass_visited(self) -> BlockHash | None:
        while True:
            block_hash = next(self._leaves.lowest_first(), None)
            if block_hash is None:
                return None
            turn, arrived = self._leaves.rank_of(block_hash)
            if (turn, arrived) < (self._round, self._hand):
                # It became a leaf behind the hand.
                turn = self._round
            elif block_hash not in self._visited:
                return block_hash
            else:
                self._visited.discard(block_hash)
            self._leaves.rerank(block_hash, (turn + 1, arrived))


class S3FifoPolicy:
    """A small queue for newcomers, a main one for what came back, a memory of what went.

    Source: S3-FIFO, Yang et al. 2023; here over leaves, so that suffixes go first.
    """

    def __init__(self) -> None:
        # The same blocks twice: first those of the small queue, and first those of the main one.
        self._leaves = LeafOrder()
        self._main_first = LeafOrder()
        self._frequency: dict[BlockHash, int] = {}
        self._ghosts: OrderedDict[BlockHash, None] = OrderedDict()
        self._in_main: set[BlockHash] = set()
        self._tick = 0

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Counts up to three."""
        for block_hash in chain:
            if block_hash in self._frequency:
                frequency = self._frequency[block_hash] + 1
                self._frequency[block_hash] = min(_MAX_FREQUENCY, frequency)

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Into the small queue, or into the main one if it went lately."""
        self._tick += 1
        self._frequency[block_hash] = 0
        if block_hash in self._ghosts:
            del self._ghosts[block_hash]
            self._in_main.add(block_hash)
        is_main = block_hash in self._in_main
        self._leaves.add(block_hash, parent_hash, (is_main, self._tick))
        self._main_first.add(block_hash, parent_hash, (not is_main, self._tick))

    def remove(self, block_hash: BlockHash) -> None:
        """Remembered if it went from the small queue."""
        self._leaves.remove(block_hash)
        self._main_first.remove(block_hash)
        del self._frequency[block_hash]
        if block_hash in self._in_main:
            self._in_main.discard(block_hash)
        else:
            self._ghosts[block_hash] = None
        while len(self._ghosts) > max(1, len(self._in_main)):
            self._ghosts.popitem(last=False)

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """The small queue while it is over its share, then the main one."""
        while True:
            num_small = len(self._leaves) - len(self._in_main)
            from_small = num_small > _SMALL_SHARE * len(self._leaves)
            order = self._leaves if from_small else self._main_first
            victim = next(order.lowest_first(), None)
            if victim is None:
                return
            if not self._spare(victim):
                yield from order.lowest_first()
                return

    def _spare(self, block_hash: BlockHash) -> bool:
        self._tick += 1
        if block_hash in self._in_main:
            if not self._frequency[block_hash]:
                return False
            self._frequency[block_hash] -= 1
        elif self._frequency[block_hash] > 1:
            self._in_main.add(block_hash)
            self._frequency[block_hash] = 0
        else:
            return False
        is_main = block_hash in self._in_main
        self._leaves.rerank(block_hash, (is_main, self._tick))
        self._main_first.rerank(block_hash, (not is_main, self._tick))
        return True
