"""Blocks without a stored continuation, in order of a rank."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

from services.core.blocks import BlockHash

_MIN_COMPACT = 1024


class LeafOrder:
    """Keeps every block's rank and offers the leaves, lowest rank first.

    Ranks are anything that compares; a block's may change at any time. A heap with entries that
    have become untrue, which are dropped when they are met.
    """

    def __init__(self) -> None:
        self._ranks: dict[BlockHash, Any] = {}
        self._parents: dict[BlockHash, BlockHash] = {}
        # Stored continuations per block, also of blocks that are not (or not yet) here.
        self._num_children: dict[BlockHash, int] = {}
        self._heap: list[tuple[Any, BlockHash]] = []

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, block_hash: BlockHash) -> bool:
        return block_hash in self._ranks

    def __iter__(self) -> Iterator[BlockHash]:
        return iter(self._ranks)

    def rank_of(self, block_hash: BlockHash) -> Any:
        """Its rank now."""
        return self._ranks[block_hash]

    def parent_of(self, block_hash: BlockHash) -> BlockHash:
        """The block that a stored one continues; empty for a first one."""
        return self._parents[block_hash]

    def is_leaf(self, block_hash: BlockHash) -> bool:
        """Whether it is stored and nothing stored continues it."""
        return block_hash in self._ranks and block_hash not in self._num_children

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, rank: Any) -> None:
        """Takes a block that is not here."""
        self._ranks[block_hash] = rank
        self._parents[block_hash] = parent_hash
        if parent_hash:
            self._num_children[parent_hash] = self._num_children.get(parent_hash, 0) + 1
        self._offer(block_hash)

    def rerank(self, block_hash: BlockHash, rank: Any) -> None:
        """Changes the rank of a block that is here."""
        self._ranks[block_hash] = rank
        self._offer(block_hash)

    def remove(self, block_hash: BlockHash) -> Any:
        """Forgets a block; returns its rank."""
        rank = self._ranks.pop(block_hash)
        parent = self._parents.pop(block_hash)
        if parent:
            num_left = self._num_children[parent] - 1
            if num_left:
                self._num_children[parent] = num_left
            else:
                del self._num_children[parent]
                if parent in self._ranks:
                    self._offer(parent)
        return rank

    def lowest_first(self) -> Iterator[BlockHash]:
        """Leaves by rank. Ends with the next change."""
        passed: list[tuple[Any, BlockHash]] = []
        try:
            while self._heap:
                entry = heapq.heappop(self._heap)
                rank, block_hash = entry
                if self.is_leaf(block_hash) and self._ranks[block_hash] == rank:
                    passed.append(entry)
                    yield block_hash
        finally:
            self._push(passed)

    def _offer(self, block_hash: BlockHash) -> None:
        if block_hash not in self._num_children:
            heapq.heappush(self._heap, (self._ranks[block_hash], block_hash))
            if len(self._heap) > max(_MIN_COMPACT, 4 * len(self._ranks)):
                self._heap = [(rank, key) for key, rank in self._ranks.items() if self.is_leaf(key)]
                heapq.heapify(self._heap)

    def _push(self, entries: Iterable[tuple[Any, BlockHash]]) -> None:
        for entry in entries:
            heapq.heappush(self._heap, entry)
