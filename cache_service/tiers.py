"""Memory above disk: blocks go down as they come, and come up again when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from cache_service.arena import Arena
from cache_service.block_store import BlockStore
from cache_service.disk_tier import DiskTier
from cache_service.store_rules import PutOutcome
from services.core.blocks import BlockHash, BlockPayload
from services.core.shared_blocks import BlockHandle


class TieredStore:
    """One store to its callers.

    Attributes:
        memory: first tier; it alone counts misses and puts.
        disk: second tier, if there is one.
        arena: where the first tier's bytes lie as far as there is room; what does not fit lies in
            this process's own memory.
    """

    def __init__(
        self, memory: BlockStore, disk: DiskTier | None = None, arena: Arena | None = None
    ) -> None:
        self.memory = memory
        self.disk = disk
        self.arena = arena

    @property
    def num_hits(self) -> int:
        """Of both tiers."""
        disk_hits = self.disk.books.counters.num_hits if self.disk is not None else 0
        return self.memory.counters.num_hits + disk_hits

    def lookup(
        self, hashes: Sequence[BlockHash], layout: str, tenant: str, *, num_held: int = 0
    ) -> int:
        """As BlockStore.lookup, over both tiers."""
        disk = self.disk
        if disk is None:
            return self.memory.lookup(hashes, layout, tenant, num_held=num_held)
        num_found = self.memory.lookup(
            hashes,
            layout,
            tenant,
            num_held=num_held,
            elsewhere=lambda block_hash: disk.holds(block_hash, layout),
        )
        found = hashes[num_held : num_held + num_found]
        disk.books.count_hits(self._lease_on_disk(disk, found, layout), tenant)
        return num_found

    def lease(self, hashes: Sequence[BlockHash], layout: str) -> int:
        """As BlockStore.lease, over both tiers."""
        disk = self.disk
        if disk is None:
            return self.memory.lease(hashes, layout)
        num_found = self.memory.lease(
            hashes, layout, elsewhere=lambda block_hash: disk.holds(block_hash, layout)
        )
        self._lease_on_disk(disk, hashes[:num_found], layout)
        return num_found

    async def load(self, hashes: Sequence[BlockHash], layout: str) -> list[BlockPayload]:
        """Leading blocks: one of memory, or some of disk, which are in memory then if they fit."""
        block = self.memory.get(hashes[0], layout)
        if block is not None:
            return [block]
        if self.disk is None:
            return []
        lacking = takewhile(lambda name: not self.memory.holds(name, layout), hashes)
        if self.arena is None:
            blocks = await self.disk.load(lacking, layout)
        else:
            read = await self.disk.load(lacking, layout, self.arena.reserve)
            blocks = [self._published(self.arena, block) for block in read]
        for block in blocks:
            self.memory.put(block)
        return blocks

    def handle_of(self, block_hash: BlockHash, layout: str) -> BlockHandle | None:
        """Where others can read a block of the first tier; None if they cannot."""
        block = self.memory.get(block_hash, layout) if self.arena is not None else None
        return self.arena.handle_of(block) if self.arena and block else None

    def leading_handles(self, hashes: Iterable[BlockHash], layout: str) -> Iterator[BlockHandle]:
        """Of blocks of the first tier, up to the first that others cannot read."""
        for block_hash in hashes:
            handle = self.handle_of(block_hash, layout)
            if handle is None:
                return
            yield handle

    def put(self, block: BlockPayload) -> PutOutcome:
        """Keeps a block in memory, and in the background on disk. Twice is safe."""
        if not self.memory.holds(block.block_hash, block.layout):
            block = self._in_arena(block)
        outcome = self.memory.put(block)
        if self.disk is not None and outcome in (PutOutcome.STORED, PutOutcome.NO_ROOM):
            self.disk.offer(block)
        return outcome

    def sweep(self) -> int:
        """Lets go of expired blocks in both tiers; returns how many."""
        num_on_disk = self.disk.books.sweep() if self.disk is not None else 0
        return self.memory.sweep() + num_on_disk

    @staticmethod
    def _published(arena: Arena, block: BlockPayload) -> BlockPayload:
        place = block.data
        # What found no place in the arena has bytes of its own.
        is_placed = isinstance(place, memoryview)
        return replace(block, data=arena.publish(place)) if is_placed else block

    def _in_arena(self, block: BlockPayload) -> BlockPayload:
        kept = self.arena.keep(block.data) if self.arena is not None else None
        return block if kept is None else replace(block, data=kept)

    def _lease_on_disk(
        self, disk: DiskTier, hashes: Sequence[BlockHash], layout: str
    ) -> list[BlockHash]:
        """Those that are there alone."""
        return [
            block_hash
            for block_hash in reversed(hashes)
            if not self.memory.holds(block_hash, layout) and disk.books.lease((block_hash,), layout)
        ]
