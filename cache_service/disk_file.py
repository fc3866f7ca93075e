"""One preallocated file of blocks, which can be read again after any crash.

A header, a table of records of fixed size, then the blocks' bytes. A record has a checksum of its
own and one of the bytes it speaks of, and is erased before its bytes are overwritten: whatever a
crash cut short is found out by one of the two, and costs a recompute.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from cache_service.extents import ALIGN_BYTES
from services.core.blocks import BlockHash, BlockPayload

_MAGIC = b"tokenmill-kv-disk-1\0"
_HEADER = Struct("<20sQQ")
_RECORD = Struct("<IQQQI16sB16sHH")
_RECORD_BYTES = 1024
_BYTES_PER_RECORD = 65_536
_MIN_RECORDS = 16


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """Where a block lies, and what it is.

    Attributes:
        block: without its bytes.
        sequence: later records are of later writes.
        offset_bytes: from the beginning of the space for blocks.
    """

    block: BlockPayload
    slot_idx: int
    sequence: int
    offset_bytes: int
    size_bytes: int


class DiskFile:
    """Reads and writes; knows no policy. Every method may block.

    Attributes:
        num_slots: records that fit.
        space_bytes: bytes for blocks.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Opens or makes the file.

        Args:
            path: of the file; its directory is made.
            size_bytes: of the whole file. A file of another size is begun anew.

        Raises:
            OSError: there is no room for it, it cannot be written, or another process has it.
        """
        self.num_slots = max(_MIN_RECORDS, size_bytes // _BYTES_PER_RECORD)
        self._base = ALIGN_BYTES + _whole_pages(self.num_slots * _RECORD_BYTES)
        self.space_bytes = max(0, size_bytes - self._base)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            header = _HEADER.pack(_MAGIC, size_bytes, self.num_slots)
            if os.pread(self._fd, _HEADER.size, 0) != header:
                os.ftruncate(self._fd, 0)
                os.posix_fallocate(self._fd, 0, self._base + self.space_bytes)
                os.pwrite(self._fd, header, 0)
        except OSError:
            os.close(self._fd)
            raise

    def records(self) -> Iterator[DiskRecord]:
        """Records that are whole, in order of place."""
        for slot_idx in range(self.num_slots):
            raw = os.pread(self._fd, _RECORD_BYTES, self._slot_at(slot_idx))
            record = _read_record(raw, slot_idx)
            if record is not None and record.offset_bytes + record.size_bytes <= self.space_bytes:
                yield record

    def write(self, record: DiskRecord, content: bytes | memoryview) -> None:
        """Writes bytes, then the record that tells of them.

        Raises:
            OSError: it could not be written.
        """
        _write_all(self._fd, content, self._base + record.offset_bytes)
        _write_all(self._fd, _record_bytes(record), self._slot_at(record.slot_idx))

    def erase(self, slot_idx: int) -> None:
        """Makes a record none.

        Raises:
            OSError: it could not be written.
        """
        _write_all(self._fd, bytes(_RECORD.size), self._slot_at(slot_idx))

    def read(self, record: DiskRecord) -> bytes:
        """A block's bytes, not checked; may be short.

        Raises:
            OSError: they cannot be read.
        """
        return os.pread(self._fd, record.size_bytes, self._base + record.offset_bytes)

    def read_into(self, record: DiskRecord, place: memoryview) -> int:
        """Puts a block's bytes there, not checked; returns how many came.

        Raises:
            OSError: they cannot be read.
        """
        return os.preadv(self._fd, [place], self._base + record.offset_bytes)

    def close(self) -> None:
        """Lets go of the file. Once."""
        os.close(self._fd)

    def _slot_at(self, slot_idx: int) -> int:
        return ALIGN_BYTES + slot_idx * _RECORD_BYTES


def fits_record(block: BlockPayload) -> bool:
    """Whether what is to be said of a block fits into a record."""
    texts = len(block.layout.encode()) + len(block.tenant.encode())
    return _RECORD.size + texts <= _RECORD_BYTES


def _record_bytes(record: DiskRecord) -> bytes:
    block = record.block
    layout, tenant = block.layout.encode(), block.tenant.encode()
    head = _RECORD.pack(
        0,
        record.sequence,
        record.offset_bytes,
        record.size_bytes,
        block.crc32,
        block.block_hash,
        len(block.parent_hash),
        block.parent_hash,
        len(layout),
        len(tenant),
    )
    rest = head[4:] + layout + tenant
    return zlib.crc32(rest).to_bytes(4, "little") + rest


def _read_record(raw: bytes, slot_idx: int) -> DiskRecord | None:
    if len(raw) < _RECORD.size:
        return None
    (
        crc32, sequence, offset_bytes, size_bytes, block_crc32,
        block_hash, parent_len, parent_hash, layout_len, tenant_len,
    ) = _RECORD.unpack_from(raw)  # fmt: skip
    end = _RECORD.size + layout_len + tenant_len
    if not size_bytes or zlib.crc32(raw[4:end]) != crc32:
        return None
    texts = raw[_RECORD.size : end]
    block = BlockPayload(
        block_hash=BlockHash(block_hash),
        parent_hash=parent_hash[:parent_len],
        layout=texts[:layout_len].decode(),
        tenant=texts[layout_len:].decode(),
        data=b"",
        crc32=block_crc32,
    )
    return DiskRecord(block, slot_idx, sequence, offset_bytes, size_bytes)


def _write_all(fd: int, content: bytes | memoryview, offset: int) -> None:
    view = memoryview(content).cast("B")
    while view:
        num_written = os.pwrite(fd, view, offset)
        view, offset = view[num_written:], offset + num_written


def _whole_pages(size_bytes: int) -> int:
    return -(-size_bytes // ALIGN_BYTES) * ALIGN_BYTES
