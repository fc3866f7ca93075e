"""Blocks on disk: written behind everything else, read when somebody asks for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from cache_service.block_store import BlockStore
from cache_service.counters import EvictionReason
from cache_service.disk_file import DiskFile, DiskRecord, fits_record
from cache_service.extents import ALIGN_BYTES, Extents
from cache_service.policies.choice import PolicyFactory, PolicyName
from cache_service.store_rules import PutOutcome, StoreLimits
from services.core.blocks import BlockHash, BlockPayload
from services.runtime.backlog import Backlog
from services.runtime.checksum import is_intact
from services.runtime.logs import get_logger

log = get_logger(__name__)

Reserve = Callable[[int], memoryview | None]

_READ_BYTES = 8 << 20
"""Read in one turn of a thread, which costs as much as a block; a slow reader holds no more."""

_MAX_SHARDS = 64
"""That may share a path: a bound on the search for a file."""


class DiskTier:
    """Books in memory over a DiskFile. Lives on the event loop; bytes move in threads.

    After the first error of the file it is off: it holds nothing and takes nothing.

    Attributes:
        books: which blocks are on disk; they have no bytes there.
        policy: of the books.
        num_dropped: blocks that were not written since too many waited.
        num_torn: blocks that did not come back as they were written.
        load_s: seconds spent reading.
    """

    def __init__(
        self,
        path: Path,
        size_bytes: int,
        limits: StoreLimits,
        policy: tuple[PolicyName, PolicyFactory],
        clock: Callable[[], float],
        *,
        max_queued_bytes: int,
    ) -> None:
        """Opens the file and reads what is there.

        Args:
            path: of the file.
            size_bytes: of the file.
            limits: leases, tenants' shares and time to live; capacities are the file's.
            policy: which block goes first.
            clock: monotonic seconds.
            max_queued_bytes: that may wait to be written.

        Raises:
            OSError: the file cannot be used.
        """
        self._file = DiskFile(path, size_bytes)
        self.policy, new_policy = policy
        limits = replace(
            limits, capacity_bytes=self._file.space_bytes, max_blocks=self._file.num_slots
        )
        self.books = BlockStore(limits, new_policy, clock, self._on_gone)
        self.num_dropped = 0
        self.num_torn = 0
        self.load_s = 0.0
        self.is_off = False
        self._extents = Extents(self._file.space_bytes)
        self._free_slots = list(range(self._file.num_slots - 1, -1, -1))
        self._records: dict[BlockHash, DiskRecord] = {}
        # Reserved, but not (or not rightly) on disk: they are not found.
        self._unreadable: set[BlockHash] = set()
        self._erased: list[int] = []
        self._num_writes = 0
        self._backlog: Backlog[BlockPayload] = Backlog(max_queued_bytes)
        self._queued: set[BlockHash] = set()
        self._restore()

    def holds(self, block_hash: BlockHash, layout: str) -> bool:
        """Whether a block can be read here."""
        return (
            not self.is_off
            and block_hash not in self._unreadable
            and self.books.holds(block_hash, layout)
        )

    def offer(self, block: BlockPayload) -> None:
        """Queues a block to be written; returns at once, and may drop it."""
        block_hash, size_bytes = block.block_hash, memoryview(block.data).nbytes
        if (
            self.is_off
            or block_hash in self._queued
            or self.holds(block_hash, block.layout)
            or not fits_record(block)
        ):
            return
        if self._backlog.add(block, size_bytes):
            self._queued.add(block_hash)
        else:
            self.num_dropped += 1

    async def load(
        self, hashes: Iterable[BlockHash], layout: str, reserve: Reserve = lambda _: None
    ) -> list[BlockPayload]:
        """Reads the leading blocks that are here, as they were written: some megabytes at a time.

        Args:
            hashes: in order.
            layout: of the reader.
            reserve: where to put a block of so many bytes; None: into new memory.
        """
        records = self._leading(hashes, layout)
        if not records:
            return []
        places = [reserve(record.size_bytes) for record in records]
        started = time.perf_counter()
        try:
            blocks = await asyncio.to_thread(_read, self._file, records, places)
        except OSError as exc:
            self._turn_off(exc)
            return []
        finally:
            self.load_s += time.perf_counter() - started
        if len(blocks) < len(records):
            torn = records[len(blocks)]
            self.num_torn += 1
            if self._records.get(torn.block.block_hash) is torn:
                self._unreadable.add(torn.block.block_hash)
            log.warning("disk.block_torn", size_bytes=torn.size_bytes)
        return blocks

    def _leading(self, hashes: Iterable[BlockHash], layout: str) -> list[DiskRecord]:
        records: list[DiskRecord] = []
        size_bytes = 0
        for block_hash in hashes:
            record = self._records.get(block_hash)
            if record is None or not self.holds(block_hash, layout):
                break
            size_bytes += record.size_bytes
            if records and size_bytes > _READ_BYTES:
                break
            records.append(record)
        return records

    async def run(self) -> None:
        """Writes what is queued, for ever."""
        await self._backlog.run(self._write)

    async def flush(self, timeout_s: float) -> None:
        """Waits until everything queued is written, but not longer than timeout_s."""
        if not await self._backlog.flush(timeout_s):
            log.warning("disk.blocks_left", num_blocks=len(self._backlog))

    def close(self) -> None:
        """Lets go of the file; nothing may run here any more."""
        self._file.close()

    async def _write(self, block: BlockPayload) -> None:
        try:
            await self._write_anew(block)
        finally:
            self._queued.discard(block.block_hash)

    async def _write_anew(self, block: BlockPayload) -> None:
        if self.is_off or self.holds(block.block_hash, block.layout):
            return
        record = self._place(block)
        if record is None:
            return
        erased, self._erased = self._erased, []
        try:
            await asyncio.to_thread(_write, self._file, erased, record, block)
        except OSError as exc:
            self._turn_off(exc)
            return
        if self._records.get(block.block_hash) is record:
            self._unreadable.discard(block.block_hash)

    def _place(self, block: BlockPayload) -> DiskRecord | None:
        """Makes room and reserves it; None if there is none."""
        known = self._records.get(block.block_hash)
        if known is not None:
            return known  # Torn: its bytes are written anew.
        content_bytes = memoryview(block.data).nbytes
        # In whole pages, as they lie in the file: so that the books know when it is full.
        size_bytes = -(-content_bytes // ALIGN_BYTES) * ALIGN_BYTES
        stub = replace(block, data=b"")
        if self.books.put(stub, size_bytes) in (PutOutcome.TOO_LARGE, PutOutcome.NO_ROOM):
            return None
        self._unreadable.add(block.block_hash)
        offset = self._extents.take(content_bytes)
        if offset is None or not self._free_slots:
            # Too scattered: it takes its room in the books until it goes, and is not found.
            if offset is not None:
                self._extents.give_back(offset, content_bytes)
            return None
        self._num_writes += 1
        record = DiskRecord(stub, self._free_slots.pop(), self._num_writes, offset, content_bytes)
        self._records[block.block_hash] = record
        return record

    def _on_gone(self, block: BlockPayload, reason: EvictionReason) -> None:
        self._unreadable.discard(block.block_hash)
        record = self._records.pop(block.block_hash, None)
        if record is not None:
            self._extents.give_back(record.offset_bytes, record.size_bytes)
            self._free_slots.append(record.slot_idx)
            self._erased.append(record.slot_idx)

    def _restore(self) -> None:
        """Takes the records of an earlier life; of two that overlap, the later."""
        found = sorted(self._file.records(), key=lambda record: -record.sequence)
        taken: list[DiskRecord] = []
        for record in found:
            if record.block.block_hash not in self._records and self._extents.take_at(
                record.offset_bytes, record.size_bytes
            ):
                self._records[record.block.block_hash] = record
                taken.append(record)
        for record in reversed(taken):
            size_bytes = -(-record.size_bytes // ALIGN_BYTES) * ALIGN_BYTES
            if self.books.put(record.block, size_bytes) is not PutOutcome.STORED:
                self._on_gone(record.block, EvictionReason.ROOM)
        self._num_writes = found[0].sequence if found else 0
        used = {record.slot_idx for record in self._records.values()}
        self._free_slots = [idx for idx in reversed(range(self._file.num_slots)) if idx not in used]
        log.info("disk.opened", num_blocks=len(taken), size_bytes=self.books.size_bytes)

    def _turn_off(self, exc: OSError) -> None:
        if not self.is_off:
            self.is_off = True
            log.error("disk.turned_off", fault=str(exc))


def open_disk(
    path: Path,
    size_bytes: int,
    limits: StoreLimits,
    policy: tuple[PolicyName, PolicyFactory],
    clock: Callable[[], float],
    *,
    max_queued_bytes: int,
) -> DiskTier | None:
    """A DiskTier; None, and a line in the log, if its file cannot be used.

    Of shards that were given one path each takes a file of its own: the first takes that, others
    take those that are called after it.
    """
    for number in range(1, _MAX_SHARDS + 1):
        own = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            return DiskTier(
                own, size_bytes, limits, policy, clock, max_queued_bytes=max_queued_bytes
            )
        except BlockingIOError:
            log.info("disk.taken", path=str(own))
        except OSError as exc:
            log.error("disk.turned_off", path=str(own), fault=str(exc))
            break
    return None


def _read(
    file: DiskFile, records: Sequence[DiskRecord], places: Sequence[memoryview | None]
) -> list[BlockPayload]:
    """Up to the first that is not as it was written."""
    blocks: list[BlockPayload] = []
    for record, place in zip(records, places, strict=True):
        content = file.read(record) if place is None else place[: file.read_into(record, place)]
        block = replace(record.block, data=content)
        if len(content) != record.size_bytes or not is_intact(block):
            break
        blocks.append(block)
    return blocks


def _write(file: DiskFile, erased: list[int], record: DiskRecord, block: BlockPayload) -> None:
    # First of all: a record must not speak of bytes that are being overwritten.
    for slot_idx in erased:
        file.erase(slot_idx)
    file.write(record, block.data)
