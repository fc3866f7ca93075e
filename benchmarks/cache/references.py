"""What the service's policies are compared with: the optimum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cache_service.policies.leaves import LeafOrder
from services.core.blocks import BlockHash


class OptimalPolicy:
    """Knows the future: what is used again last, or never, goes first (Belady 1966).

    Args:
        chains: all requests to come, in order.
    """

    def __init__(self, chains: Sequence[Sequence[BlockHash]]) -> None:
        self._leaves = LeafOrder()
        self._idx = -1
        self._next: list[dict[BlockHash, int]] = [{} for _ in chains]
        upcoming: dict[BlockHash, int] = {}
        for idx in range(len(chains) - 1, -1, -1):
            for block_hash in chains[idx]:
                self._next[idx][block_hash] = upcoming.get(block_hash, len(chains))
            upcoming.update(dict.fromkeys(chains[idx], idx))

    def used(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """The next request of the known ones."""
        self._idx += 1
        for block_hash in chain:
            if block_hash in self._leaves:
                self._leaves.rerank(block_hash, -self._next[self._idx][block_hash])

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Takes its place by its next use."""
        self._leaves.add(block_hash, parent_hash, -self._next[self._idx][block_hash])

    def remove(self, block_hash: BlockHash) -> None:
        """Leaves the order."""
        self._leaves.remove(block_hash)

    def coldest_first(self, now_s: float) -> Iterator[BlockHash]:
        """From the farthest next use to the nearest."""
        return self._leaves.lowest_first()
