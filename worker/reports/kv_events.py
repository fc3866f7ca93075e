"""The worker's record of which blocks can be found, for those who choose workers by it."""

from __future__ import annotations

import itertools
import threading

from services.core.blocks import BlockHash
from services.core.kv_events import KvEvent, KvSnapshot

MAX_CHANGES = 8_192
"""Blocks in one event: 128 KiB, far under what a broker takes."""


class KvEventLog:
    """Collects changes of a block pool into numbered events; a `PoolListener`.

    Safe to call from any thread. Memory is bounded by the pool: a block that changed twice between
    two events is told of once, by what is true at the end.

    Args:
        epoch: rises with each start of the worker.
    """

    def __init__(self, worker_id: str, epoch: int) -> None:
        self._worker_id = worker_id
        self._epoch = epoch
        self._lock = threading.Lock()
        self._held: dict[BlockHash, None] = {}
        self._changes: dict[BlockHash, bool] = {}
        self._event_idx = 0

    def on_remembered(self, block_hash: BlockHash) -> None:
        """A prefix can hit this block from now on."""
        with self._lock:
            self._held[block_hash] = None
            self._changes[block_hash] = True

    def on_forgotten(self, block_hash: BlockHash) -> None:
        """A prefix cannot hit this block any more."""
        with self._lock:
            self._held.pop(block_hash, None)
            self._changes[block_hash] = False

    @property
    def epoch(self) -> int:
        """Rises with each start of the worker."""
        return self._epoch

    @property
    def event_idx(self) -> int:
        """The last event that was taken; 0 if none was."""
        return self._event_idx

    def take(self) -> KvEvent | None:
        """The next event, of at most MAX_CHANGES; None if nothing changed since the last one."""
        with self._lock:
            if not self._changes:
                return None
            told = list(itertools.islice(self._changes.items(), MAX_CHANGES))
            changes = dict(told)
            for block_hash in changes:
                del self._changes[block_hash]
            self._event_idx += 1
            return KvEvent(
                worker_id=self._worker_id,
                epoch=self._epoch,
                event_idx=self._event_idx,
                stored=tuple(key for key, is_held in changes.items() if is_held),
                removed=tuple(key for key, is_held in changes.items() if not is_held),
            )

    def snapshot(self) -> KvSnapshot:
        """Everything that is held, with the last event that told of it.

        Changes that no event has told of yet are in it too; the next event repeats them, which
        changes nothing.
        """
        with self._lock:
            return KvSnapshot(self._worker_id, self._epoch, self._event_idx, tuple(self._held))
