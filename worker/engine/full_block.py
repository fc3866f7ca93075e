"""A block that was computed here, on its way to the cache service."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from services.core.blocks import BlockPayload
from services.runtime.checksum import crc32


class BlockState(enum.Enum):
    """How far a block has come."""

    HERE = "here"
    """Nobody was told of it, or who was told could not take it."""
    TOLD = "told"
    SENT = "sent"
    """The cache service has it, or has refused it."""


@dataclass(slots=True, eq=False)
class FullBlock:
    """A full block, read by whoever was told of it when they come to it.

    So the engine copies nothing for those who read in time, and nothing that the cache service has
    already. When the pool needs the place first, the engine keeps a copy. Read from any thread.

    Attributes:
        stub: all of it but its bytes and their checksum.
        size_bytes: of its bytes.
        state: changed by the engine until it tells of the block, by who was told from then on.
    """

    stub: BlockPayload
    size_bytes: int
    state: BlockState = field(default=BlockState.HERE, init=False)
    _copy: Callable[[], bytes] | None
    _kept: bytes | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def payload(self) -> BlockPayload | None:
        """The block with its bytes, as they are copied now; None if they are lost."""
        with self._lock:
            content = self._kept
            if content is None and self._copy is not None:
                content = self._copy()
        if content is None:
            return None
        return replace(self.stub, data=content, crc32=crc32(content))

    def settle(self, state: BlockState) -> None:
        """Whoever was told of it needs it no longer.

        Args:
            state: SENT, or HERE if another may be told of it.
        """
        self.state = state
        with self._lock:
            self._kept = None

    def leave_pool(self, *, keep: bool) -> None:
        """Its place is about to be written over.

        Args:
            keep: whether somebody will still read it.
        """
        with self._lock:
            if keep and self._copy is not None:
                self._kept = self._copy()
            self._copy = None
