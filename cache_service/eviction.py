"""Which block goes first when room is needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

from services.core.blocks import BlockHash


class EvictionPolicy(Protocol):
    """Orders blocks by how soon they should go.

    The store asks for the order and passes over blocks that must stay (leased, or with a stored
    continuation). A policy is told of every block that comes, is used or goes, each exactly once
    per event. One owner, no threads.
    """

    def add(self, block_hash: BlockHash, now_s: float) -> None:
        """A block came; it counts as used now."""
        ...

    def touch(self, block_hash: BlockHash, now_s: float) -> None:
        """A block was used."""
        ...

    def remove(self, block_hash: BlockHash) -> None:
        """A block went."""
        ...

    def coldest_first(self) -> Iterator[BlockHash]:
        """All blocks, the first to go first. Ends with the next add, touch or remove."""
        ...


class LruPolicy:
    """Least recently used first."""

    def __init__(self) -> None:
        self._order: OrderedDict[BlockHash, None] = OrderedDict()

    def add(self, block_hash: BlockHash, now_s: float) -> None:
        """Enters as the warmest."""
        self._order[block_hash] = None

    def touch(self, block_hash: BlockHash, now_s: float) -> None:
        """Becomes the warmest."""
        self._order.move_to_end(block_hash)

    def remove(self, block_hash: BlockHash) -> None:
        """Leaves the order."""
        del self._order[block_hash]

    def coldest_first(self) -> Iterator[BlockHash]:
        """From the longest unused to the latest used."""
        return iter(self._order)
