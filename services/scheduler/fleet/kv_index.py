"""Which worker holds which K/V blocks, as their events tell."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.core.blocks import BlockHash
from services.core.kv_events import KvEvent, KvSnapshot

MAX_EARLY_EVENTS = 64
"""Events kept of a worker behind a gap. More than a network reorders; after that only its list
helps."""


@dataclass(slots=True)
class _Holder:
    """One worker's part.

    Attributes:
        bit: its place in the masks.
        held: its blocks, the longest untouched first.
        early: events that came before one that is missing, by number.
    """

    bit: int
    epoch: int
    event_idx: int = 0
    held: dict[BlockHash, None] = field(default_factory=dict[BlockHash, None])
    early: dict[int, KvEvent] = field(default_factory=dict[int, KvEvent])


class KvIndex:
    """Converges to the truth as soon as the worker's list, or all of its events, got through.

    A lookup walks a prompt once for all workers: each block has a mask of the workers that hold it.

    Args:
        max_entries: blocks of all workers together. Beyond that the worker with the most loses its
            oldest: a forgotten block only makes a worker look worse than it is.
    """

    def __init__(self, max_entries: int = 2_000_000) -> None:
        self._max_entries = max_entries
        self._num_entries = 0
        self._holders: dict[str, _Holder] = {}
        self._worker_of_bit: dict[int, str] = {}
        self._masks: dict[BlockHash, int] = {}
        self._let_go: dict[BlockHash, None] = {}
        self._max_let_go = max_entries // 4

    def __len__(self) -> int:
        return self._num_entries

    def apply(self, event: KvEvent) -> None:
        """Takes an event; the order, repetitions and losses of events do not matter."""
        holder = self._holder(event.worker_id, event.epoch)
        if event.epoch < holder.epoch or event.event_idx <= holder.event_idx:
            return
        if len(holder.early) < MAX_EARLY_EVENTS:
            holder.early[event.event_idx] = event
        self._catch_up(holder)

    def replace(self, snapshot: KvSnapshot) -> None:
        """Takes a worker's own list; an older one than what is known already changes nothing."""
        holder = self._holder(snapshot.worker_id, snapshot.epoch)
        is_old = snapshot.event_idx < holder.event_idx
        if snapshot.epoch < holder.epoch or is_old:
            return
        self._clear(holder)
        for block_hash in snapshot.held:
            self._store(holder, block_hash)
        holder.event_idx = snapshot.event_idx
        holder.early = {
            idx: event for idx, event in holder.early.items() if idx > snapshot.event_idx
        }
        self._catch_up(holder)

    def forget(self, worker_id: str) -> None:
        """The worker is gone, and its blocks with it."""
        holder = self._holders.pop(worker_id, None)
        if holder is not None:
            self._clear(holder)
            del self._worker_of_bit[holder.bit]

    def position(self, worker_id: str) -> tuple[int, int]:
        """Epoch and number of the last event that is counted in; (0, 0) if none is."""
        holder = self._holders.get(worker_id)
        return (0, 0) if holder is None else (holder.epoch, holder.event_idx)

    def gaps(self) -> list[str]:
        """Workers of which an event is missing: their lists are wanted."""
        return [worker_id for worker_id, holder in self._holders.items() if holder.early]

    def held_by(self, worker_id: str) -> frozenset[BlockHash]:
        """What the worker is believed to hold."""
        holder = self._holders.get(worker_id)
        return frozenset() if holder is None else frozenset(holder.held)

    def num_offered(self, hashes: Sequence[BlockHash]) -> int:
        """Leading blocks that some worker holds, or the last one let go of lately.

        The cache service was offered them; whether it still has them nobody asks here.
        """
        if not hashes or not self._is_offered(hashes[0]):
            return 0
        return bisect_left(hashes, True, key=lambda block_hash: not self._is_offered(block_hash))

    def _is_offered(self, block_hash: BlockHash) -> bool:
        return block_hash in self._masks or block_hash in self._let_go

    def match(self, hashes: Sequence[BlockHash]) -> dict[str, int]:
        """Leading blocks that each worker holds; workers that hold none are left out.

        A hash is chained to those before it and a pool lets go of a prefix from its tail, so who
        holds a block holds all before it, and the ends are found by halving: some tens of lookups
        instead of one per block. Where a worker holds a block without one before it, it may be
        credited with both; that costs a detour, never an answer.
        """
        found: dict[str, int] = {}
        if not hashes:
            return found
        masks, last = self._masks, len(hashes) - 1
        first = masks.get(hashes[0], 0)
        at_last = first & masks.get(hashes[last], 0)
        open_ranges = [(0, first, last, at_last)]
        while open_ranges:
            low, at_low, high, at_high = open_ranges.pop()
            if at_low == at_high:
                continue  # nobody's blocks end in between
            if high - low == 1:
                self._note(found, at_low & ~at_high, high)
                continue
            middle = (low + high) // 2
            at_middle = at_low & masks.get(hashes[middle], 0)
            open_ranges.append((low, at_low, middle, at_middle))
            open_ranges.append((middle, at_middle, high, at_high & at_middle))
        self._note(found, at_last, len(hashes))
        return found

    def _note(self, found: dict[str, int], mask: int, num_blocks: int) -> None:
        while mask:
            bit = mask & -mask
            found[self._worker_of_bit[bit]] = num_blocks
            mask ^= bit

    def _holder(self, worker_id: str, epoch: int) -> _Holder:
        holder = self._holders.get(worker_id)
        if holder is None:
            bit = 1
            while bit in self._worker_of_bit:
                bit <<= 1
            holder = self._holders[worker_id] = _Holder(bit, epoch)
            self._worker_of_bit[bit] = worker_id
        elif epoch > holder.epoch:
            # Started again: what it held is gone.
            self._clear(holder)
            holder.epoch, holder.event_idx = epoch, 0
            holder.early.clear()
        return holder

    def _catch_up(self, holder: _Holder) -> None:
        while (event := holder.early.pop(holder.event_idx + 1, None)) is not None:
            holder.event_idx = event.event_idx
            self._remove(holder, event.removed)
            for block_hash in event.stored:
                self._store(holder, block_hash)

    def _store(self, holder: _Holder, block_hash: BlockHash) -> None:
        if block_hash in holder.held:
            del holder.held[block_hash]
        else:
            self._masks[block_hash] = self._masks.get(block_hash, 0) | holder.bit
            self._let_go.pop(block_hash, None)
            self._num_entries += 1
        holder.held[block_hash] = None
        if self._num_entries > self._max_entries:
            largest = max(self._holders.values(), key=lambda other: len(other.held))
            self._remove(largest, [next(iter(largest.held))])

    def _remove(self, holder: _Holder, hashes: Iterable[BlockHash]) -> None:
        for block_hash in hashes:
            if block_hash not in holder.held:
                continue
            del holder.held[block_hash]
            self._num_entries -= 1
            left = self._masks[block_hash] & ~holder.bit
            if left:
                self._masks[block_hash] = left
            else:
                del self._masks[block_hash]
                self._let_go[block_hash] = None
                if len(self._let_go) > self._max_let_go:
                    del self._let_go[next(iter(self._let_go))]

    def _clear(self, holder: _Holder) -> None:
        self._remove(holder, list(holder.held))
