"""What the store asks of an eviction policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from services.core.blocks import BlockHash


class EvictionPolicy(Protocol):
    """Orders blocks by how soon they should go.

    It offers only leaves, blocks without a stored continuation, so that a suffix always dies before
    its prefix. The store passes over those that must stay. One owner, no threads, no clock.
    """

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """A request used this chain.

        Args:
            chain: from the first block on, blocks that are not stored included; told once for each
                request, before those are added.
            now_s: monotonic.
        """
        ...

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """A block came; it counts as used now.

        Args:
            block_hash: not stored until now.
            parent_hash: the block that it continues, stored or not; empty for a first one.
            now_s: monotonic.
        """
        ...

    def remove(self, block_hash: BlockHash) -> None:
        """A block went. Only a leaf goes."""
        ...

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """Leaves, the first to go first. Ends with the next call of another method."""
        ...


@runtime_checkable
class RunPolicy(Protocol):
    """A policy that takes and lets go many blocks at once, in less work than one by one."""

    def add_run(self, run: Sequence[BlockHash], parent_hash: BlockHash, now_s: float) -> None:
        """Blocks came that continue each other, the first of them the parent; as by `add`."""
        ...

    def evict(self, num_blocks: int, now_s: float) -> list[BlockHash]:
        """Lets the first of `coldest_first` go, so many times or until there is none."""
        ...
