"""Blocks without a stored continuation, and their order by a rank."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from services.core.blocks import BlockHash

_MIN_COMPACT = 1024


class Leaves:
    """Knows what continues what among the stored blocks."""

    def __init__(self) -> None:
        self._parents: dict[BlockHash, BlockHash] = {}
        # Stored continuations per block, also of blocks that are not (or not yet) here.
        self._num_children: dict[BlockHash, int] = {}

    def __len__(self) -> int:
        return len(self._parents)

    def __contains__(self, block_hash: BlockHash) -> bool:
        return block_hash in self._parents

    def __iter__(self) -> Iterator[BlockHash]:
        return iter(self._parents)

    def parent_of(self, block_hash: BlockHash) -> BlockHash:
        """The block that a stored one continues; empty for a first one."""
        return self._parents[block_hash]

    def is_leaf(self, block_hash: BlockHash) -> bool:
        """Whether it is stored and nothing stored continues it."""
        return block_hash not in self._num_children and block_hash in self._parents

    def join(self, block_hash: BlockHash, parent_hash: BlockHash) -> None:
        """Takes a block that is not here."""
        self._parents[block_hash] = parent_hash
        if parent_hash:
            self._num_children[parent_hash] = self._num_children.get(parent_hash, 0) + 1

    def join_run(self, run: Sequence[BlockHash], parent_hash: BlockHash) -> None:
        """Takes blocks that are not here and continue each other."""
        parents, num_children = self._parents, self._num_children
        for block_hash in run:
            parents[block_hash] = parent_hash
            if parent_hash:
                num_children[parent_hash] = num_children.get(parent_hash, 0) + 1
            parent_hash = block_hash

    def leave(self, block_hash: BlockHash) -> BlockHash | None:
        """Forgets a block; returns its parent if that is a leaf now."""
        parent = self._parents.pop(block_hash)
        if not parent:
            return None
        num_left = self._num_children[parent] - 1
        if num_left:
            self._num_children[parent] = num_left
            return None
        del self._num_children[parent]
        return parent if parent in self._parents else None


class LeafOrder(Leaves):
    """Keeps every block's rank and offers the leaves, lowest rank first.

    Ranks are anything that compares; a block's may change at any time. A heap with entries that
    have become untrue, which are dropped when they are met. What changes is only noted until the
    order is asked for: most blocks are continued at once and never stand in the heap.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ranks: dict[BlockHash, Any] = {}
        self._heap: list[tuple[Any, BlockHash]] = []
        self._changed: set[BlockHash] = set()

    def rank_of(self, block_hash: BlockHash) -> Any:
        """Its rank now."""
        return self._ranks[block_hash]

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, rank: Any) -> None:
        """Takes a block that is not here."""
        self._ranks[block_hash] = rank
        self.join(block_hash, parent_hash)
        self._changed.add(block_hash)

    def add_run(
        self, run: Sequence[BlockHash], parent_hash: BlockHash, ranks: Iterable[Any]
    ) -> None:
        """Takes blocks that are not here and continue each other."""
        self._ranks.update(zip(run, ranks, strict=False))
        self.join_run(run, parent_hash)
        # The others are continued.
        self._changed.add(run[-1])

    def rerank(self, block_hash: BlockHash, rank: Any) -> None:
        """Changes the rank of a block that is here."""
        self._ranks[block_hash] = rank
        if block_hash not in self._num_children:
            self._changed.add(block_hash)

    def changed(self, block_hashes: Iterable[BlockHash]) -> None:
        """Ranks of these are others now, in an order that works them out itself."""
        ranks, num_children = self._ranks, self._num_children
        for block_hash in block_hashes:
            if block_hash in ranks and block_hash not in num_children:
                self._changed.add(block_hash)

    def remove(self, block_hash: BlockHash) -> Any:
        """Forgets a block; returns its rank."""
        parent = self.leave(block_hash)
        if parent is not None:
            self._changed.add(parent)
        return self._ranks.pop(block_hash)

    def pop_lowest(self, num_blocks: int) -> list[BlockHash]:
        """Forgets the leaf of the lowest rank, so many times or until there is none."""
        self._settle()
        heap, ranks, gone = self._heap, self._ranks, list[BlockHash]()
        while heap and len(gone) < num_blocks:
            if not self._is_true(heap[0]):
                heapq.heappop(heap)
                continue
            block_hash = heap[0][1]
            while True:
                gone.append(block_hash)
                del ranks[block_hash]
                parent = self.leave(block_hash)
                if parent is None:
                    heapq.heappop(heap)
                    break
                entry = (ranks[parent], parent)
                # Mostly its last use was the same: then it is the next to go.
                if len(gone) == num_blocks or not all(entry <= other for other in heap[1:3]):
                    heapq.heapreplace(heap, entry)
                    break
                block_hash = parent
        return gone

    def lowest_first(self) -> Iterator[BlockHash]:
        """Leaves by rank. Ends with the next change."""
        self._settle()
        heap = self._heap
        while heap and not self._is_true(heap[0]):
            heapq.heappop(heap)
        if not heap:
            return
        # Usually the first is all that is wanted: it keeps its place.
        yield heap[0][1]
        passed = [heapq.heappop(heap)]
        offered = {passed[0][1]}
        try:
            while heap:
                entry = heapq.heappop(heap)
                if entry[1] not in offered and self._is_true(entry):
                    passed.append(entry)
                    offered.add(entry[1])
                    yield entry[1]
        finally:
            for entry in passed:
                heapq.heappush(heap, entry)

    def _is_true(self, entry: tuple[Any, BlockHash]) -> bool:
        rank, block_hash = entry
        return (
            block_hash not in self._num_children
            and block_hash in self._ranks
            and self.rank_of(block_hash) == rank
        )

    def _settle(self) -> None:
        if not self._changed:
            return
        ranks, heap = self._ranks, self._heap
        for block_hash in self._changed:
            if block_hash in ranks and block_hash not in self._num_children:
                heapq.heappush(heap, (self.rank_of(block_hash), block_hash))
        self._changed.clear()
        if len(heap) > max(_MIN_COMPACT, 4 * len(ranks)):
            heap[:] = [(self.rank_of(key), key) for key in ranks if self.is_leaf(key)]
            heapq.heapify(heap)
