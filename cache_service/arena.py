"""Blocks' bytes in memory that workers of this host read without asking.

A slot is a generation number and a block's bytes. The number is zero while bytes are being written
and from when nobody holds them; no number is used twice. So a reader who finds its number after it
has copied has copied the block, whatever happened meanwhile.
"""

from __future__ import annotations

import ctypes
import secrets
import weakref
from collections import deque

from cache_service.extents import Extents
from services.core.blocks import BlockPayload
from services.core.shared_blocks import BlockHandle, SharedName
from services.runtime.logs import get_logger
from services.runtime.shared_memory import DATA_START, GENERATION, CacheTransport, OwnedMemory

log = get_logger(__name__)

_SLOT_HEAD_BYTES = 64
_SPARE_SHARE = 16
_MIN_SPARE_BYTES = 8 << 20


class _Slot(ctypes.Array[ctypes.c_ubyte]):
    """Bytes of a block; views of it keep it alive, and its place taken."""

    _type_ = ctypes.c_ubyte  # pyright: ignore[reportAssignmentType]
    _length_ = 0  # pyright: ignore[reportAssignmentType]
    offset_bytes: int
    generation: int


class Arena:
    """Lives on the event loop; what it gave away may be let go of in any thread."""

    def __init__(self, memory: OwnedMemory) -> None:
        self._memory = memory
        self._extents = Extents(memory.size_bytes - DATA_START)
        self._returned: deque[tuple[int, int]] = deque()
        self._generation = secrets.randbits(62) | 1

    @property
    def name(self) -> SharedName:
        """What readers are told."""
        return self._memory.name

    def keep(self, content: bytes | memoryview) -> memoryview | None:
        """A copy that others can read, there as long as it or a part of it is referred to.

        None if there is no room.
        """
        place = self.reserve(memoryview(content).nbytes)
        if place is None:
            return None
        place[:] = content
        return self.publish(place)

    def reserve(self, size_bytes: int) -> memoryview | None:
        """A place to write to, from any thread; nobody reads it before `publish`.

        None if there is no room.
        """
        self._take_back()
        start = self._extents.take(_SLOT_HEAD_BYTES + size_bytes)
        if start is None:
            return None
        head = DATA_START + start
        offset = head + _SLOT_HEAD_BYTES
        if not self._memory.claim(offset + size_bytes):
            self._extents.give_back(start, _SLOT_HEAD_BYTES + size_bytes)
            return None
        memory = self._memory.memory
        GENERATION.pack_into(memory, head, 0)
        slot = _slot_type(size_bytes).from_buffer(memory, offset)
        slot.offset_bytes = offset
        weakref.finalize(slot, self._let_go, start, size_bytes).atexit = False
        return memoryview(slot).cast("B")

    def publish(self, place: memoryview) -> memoryview:
        """From now on its bytes are a block's, and nobody writes there."""
        slot = place.obj
        assert isinstance(slot, _Slot), "a place of this arena"
        self._generation += 1
        slot.generation = self._generation
        head = slot.offset_bytes - _SLOT_HEAD_BYTES
        GENERATION.pack_into(self._memory.memory, head, slot.generation)
        return place.toreadonly()

    def handle_of(self, block: BlockPayload) -> BlockHandle | None:
        """Where a block lies; None if it lies elsewhere."""
        if not isinstance(block.data, memoryview) or not isinstance(block.data.obj, _Slot):
            return None
        slot = block.data.obj
        return BlockHandle(
            block.block_hash,
            slot.offset_bytes,
            block.data.nbytes,
            slot.generation,
            slot.offset_bytes - _SLOT_HEAD_BYTES,
            block.crc32,
        )

    def close(self) -> None:
        """Takes its name away. Twice is safe."""
        self._memory.close()

    def _let_go(self, start: int, size_bytes: int) -> None:
        GENERATION.pack_into(self._memory.memory, DATA_START + start, 0)
        self._returned.append((start, _SLOT_HEAD_BYTES + size_bytes))

    def _take_back(self) -> None:
        while self._returned:
            self._extents.give_back(*self._returned.popleft())


def open_arena(capacity_bytes: int, transport: CacheTransport) -> Arena | None:
    """Memory for so many bytes of blocks; None, and a line in the log, where it cannot be shared.

    Raises:
        OSError: it cannot, and nothing else is allowed.
    """
    if transport is CacheTransport.GRPC:
        return None
    # Blocks that were evicted while somebody still reads or writes them take room beside the rest.
    size_bytes = capacity_bytes + capacity_bytes // _SPARE_SHARE + _MIN_SPARE_BYTES
    try:
        return Arena(OwnedMemory("arena", size_bytes))
    except OSError as exc:
        if transport is CacheTransport.SHM:
            raise
        log.warning("arena.unavailable", fault=str(exc), size_bytes=size_bytes)
        return None


_slot_types: dict[int, type[_Slot]] = {}


def _slot_type(size_bytes: int) -> type[_Slot]:
    # Blocks of one model have one size, so that there are few.
    if size_bytes not in _slot_types:
        if len(_slot_types) > 64:
            _slot_types.clear()
        _slot_types[size_bytes] = type("_Slot", (_Slot,), {"_length_": size_bytes})
    return _slot_types[size_bytes]
