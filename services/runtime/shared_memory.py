"""Memory that processes of one host share: files in a directory that is memory.

Each file has one owner, who alone writes, and any number of readers. Whether a reader is on the
owner's host is found out by opening the file and finding the owner's nonce in it, never by names.
"""

from __future__ import annotations

import enum
import fcntl
import mmap
import os
import re
import secrets
import stat
from pathlib import Path
from struct import Struct

from services.core.shared_blocks import SharedName

SHARED_DIR = Path("/dev/shm")
DATA_START = 4096
"""Where a file's content begins, after its header."""

GENERATION = Struct("<Q")
"""The number of a slot: a writer changes it, and a reader looks whether it is still the same."""

_NAME = re.compile(r"tokenmill-[a-z]+-[0-9a-f]{32}")
_HEADER = Struct("<16s16sQ")
_MAGIC = b"tokenmill-shm-1\0"
_GROW_BYTES = 8 << 20


class CacheTransport(enum.StrEnum):
    """How K/V blocks go between a worker and the cache service."""

    AUTO = "auto"
    """Through shared memory where both are on one host, else in gRPC messages."""
    SHM = "shm"
    """Through shared memory or not at all."""
    GRPC = "grpc"


class OwnedMemory:
    """A file of our own. Its pages are claimed as they are written, for good.

    Attributes:
        name: for readers.
        memory: all of it, header included. Only what `claim` said yes to may be touched: a page
            that the system does not have would kill this process.
    """

    def __init__(self, kind: str, size_bytes: int, directory: Path | None = None) -> None:
        """Makes it, and removes those whose owners died.

        Args:
            kind: part of its name, lower case letters.
            size_bytes: of its content.
            directory: where; None: SHARED_DIR.

        Raises:
            OSError: there is not so much room, or no such directory.
        """
        directory = directory or SHARED_DIR
        _remove_stale(directory)
        self.size_bytes = DATA_START + size_bytes
        room = os.statvfs(directory)
        if room.f_bavail * room.f_frsize < self.size_bytes:
            raise OSError(f"{directory} has no room for {self.size_bytes} bytes")
        nonce = secrets.token_bytes(16)
        self.name = SharedName(f"tokenmill-{kind}-{nonce.hex()}", nonce)
        self._path = directory / self.name.name
        self._fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, self.size_bytes)
            self._num_claimed = 0
            if not self.claim(DATA_START):
                raise OSError(f"{directory} is full")
            self.memory = mmap.mmap(self._fd, self.size_bytes)
            _HEADER.pack_into(self.memory, 0, _MAGIC, nonce, self.size_bytes)
            # Named last: who finds it finds it whole, and locked.
            # Follows the link only since it is told of a directory: then it is linkat.
            os.link(f"/proc/self/fd/{self._fd}", self._path, src_dir_fd=self._fd)
        except OSError:
            os.close(self._fd)
            raise

    def claim(self, end: int) -> bool:
        """Whether the bytes before `end` are there to be written."""
        if end <= self._num_claimed:
            return True
        wanted = min(self.size_bytes, max(end, self._num_claimed + _GROW_BYTES))
        try:
            os.posix_fallocate(self._fd, self._num_claimed, wanted - self._num_claimed)
        except OSError:
            return False
        self._num_claimed = wanted
        return True

    def close(self) -> None:
        """Takes the name away; readers keep what they have. Twice is safe."""
        self._path.unlink(missing_ok=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ReadMemory:
    """Another process's file, to read. It lives as long as views of it do.

    Attributes:
        view: all of it, header included.
    """

    def __init__(self, name: SharedName, directory: Path | None = None) -> None:
        """Opens it.

        Raises:
            OSError: it is not on this host, not ours to read, or another file.
        """
        self.name = name
        if not _NAME.fullmatch(name.name):
            raise OSError(f"not a name of shared memory: {name.name[:80]!r}")
        fd = os.open(
            (directory or SHARED_DIR) / name.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        )
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise OSError(f"{name.name} is of somebody else")
            header = os.pread(fd, _HEADER.size, 0)
            if len(header) < _HEADER.size:
                raise OSError(f"{name.name} is too short")
            magic, nonce, size_bytes = _HEADER.unpack(header)
            if (magic, nonce) != (_MAGIC, name.nonce) or size_bytes != status.st_size:
                raise OSError(f"{name.name} is another file")
            memory = mmap.mmap(fd, size_bytes, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self.view = memoryview(memory)


def open_shared(name: SharedName, directory: Path | None = None) -> ReadMemory | None:
    """A file to read; None if it cannot be read here, which mostly means another host."""
    try:
        return ReadMemory(name, directory)
    except OSError:
        return None


def _remove_stale(directory: Path) -> None:
    """Removes files whose owners are gone: their locks went with them."""
    for path in directory.glob("tokenmill-*"):
        if not _NAME.fullmatch(path.name):
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:
            pass
        finally:
            os.close(fd)
