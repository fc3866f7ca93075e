"""Blocks through memory that this worker shares with a cache service of the same host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from services.core.blocks import BlockPayload
from services.core.errors import DependencyLost
from services.core.shared_blocks import BlockHandle, SharedName, StagedBlock, StagedOffer
from services.runtime.logs import get_logger
from services.runtime.shared_memory import (
    DATA_START,
    GENERATION,
    OwnedMemory,
    ReadMemory,
    open_shared,
)

log = get_logger(__name__)

STAGING_BYTES = 64 << 20
_ALIGN_BYTES = 64


class SharedSource:
    """What a service has in shared memory, if this host is its host."""

    def __init__(self) -> None:
        self._name: SharedName | None = None
        self._memory: ReadMemory | None = None

    @property
    def nonce(self) -> bytes:
        """Of the memory that is open; empty if none is."""
        return self._memory.name.nonce if self._memory is not None else b""

    def follow(self, name: SharedName | None) -> None:
        """The service says where its blocks are; another place after each of its starts."""
        if name == self._name:
            return
        self._name = name
        # Blocks on their way into the pool keep the old one until they are in.
        self._memory = open_shared(name) if name is not None else None
        log.info("cache.transport_chosen", is_shared=self._memory is not None)

    def payload(self, handle: BlockHandle, layout: str) -> BlockPayload:
        """A block where it lies. To be checked, and asked whether it is current when copied.

        Raises:
            DependencyLost: the handle points to no place in the memory that is open.
        """
        memory = self._memory
        end = handle.offset_bytes + handle.size_bytes
        number_end = handle.generation_offset_bytes + GENERATION.size
        if memory is None or not handle.generation or max(end, number_end) > len(memory.view):
            raise DependencyLost("a block is said to be where no memory is")
        return BlockPayload(
            handle.block_hash,
            b"",
            layout,
            "",
            memory.view[handle.offset_bytes : end],
            handle.crc32,
            is_current=partial(_is_current, memory.view, handle),
        )


class StagingArea:
    """A file of our own in which a service finds the blocks of an offer."""

    def __init__(self, size_bytes: int = STAGING_BYTES) -> None:
        """Takes no memory yet.

        Args:
            size_bytes: most that one offer may have.
        """
        self._size_bytes = size_bytes
        self._memory: OwnedMemory | None = None

    def stage(self, blocks: Sequence[BlockPayload]) -> Iterator[StagedOffer]:
        """Copies blocks of one layout, as many at a time as fit; may block.

        What was staged before is gone when the next is asked for. Ends early where there is no
        room.
        """
        memory = self._memory
        if memory is None:
            try:
                memory = self._memory = OwnedMemory("staging", self._size_bytes)
            except OSError as exc:
                log.warning("cache.staging_unavailable", fault=str(exc))
                return
        staged: list[StagedBlock] = []
        offset = DATA_START
        for block in blocks:
            size_bytes = memoryview(block.data).nbytes
            if staged and offset + size_bytes > memory.size_bytes:
                yield StagedOffer(memory.name, blocks[0].layout, staged)
                staged, offset = [], DATA_START
            if offset + size_bytes > memory.size_bytes or not memory.claim(offset + size_bytes):
                break
            memory.memory[offset : offset + size_bytes] = block.data
            staged.append(
                StagedBlock(
                    block.block_hash,
                    block.parent_hash,
                    offset,
                    size_bytes,
                    block.crc32,
                    block.tenant,
                )
            )
            offset += -(-size_bytes // _ALIGN_BYTES) * _ALIGN_BYTES
        if staged:
            yield StagedOffer(memory.name, blocks[0].layout, staged)

    def close(self) -> None:
        """Gives its memory back. Twice is safe."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def _is_current(view: memoryview, handle: BlockHandle) -> bool:
    (generation,) = GENERATION.unpack_from(view, handle.generation_offset_bytes)
    return generation == handle.generation
