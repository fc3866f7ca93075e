"""Who holds which K/V block, and which unused blocks may be found again.

Bookkeeping only: block ids are indices into memory that somebody else owns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.core.blocks import BlockHash
from worker.engine.free_list import FreeList


@dataclass(frozen=True, slots=True)
class PrefixHit:
    """Leading full blocks that the pool holds; empty if none. Not yet held by the asker."""

    block_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NoRoom:
    """The blocks are not to be had now."""

    num_wanted: int
    num_free: int


class PoolListener(Protocol):
    """Hears which blocks can be found; called by whoever changes the pool, must be quick."""

    def on_remembered(self, block_hash: BlockHash) -> None:
        """A prefix can hit this block from now on."""
        ...

    def on_forgotten(self, block_hash: BlockHash) -> None:
        """A prefix cannot hit this block any more; its bytes are there until the call returns."""
        ...


class BlockPool:
    """Reference counts, free list and hash index of a fixed number of blocks.

    A block that nobody holds keeps its hash and can be found again until it is allocated anew.
    Not thread-safe, except that `match` may be called from any thread.

    Attributes:
        remembers: whether blocks can be found at all.
    """

    def __init__(self, num_blocks: int, *listeners: PoolListener, remembers: bool = True) -> None:
        self.num_blocks = num_blocks
        self.remembers = remembers
        self._listeners = listeners
        self._num_refs = [0] * num_blocks
        self._hash_of: list[BlockHash | None] = [None] * num_blocks
        self._block_of: dict[BlockHash, int] = {}
        self._free = FreeList(num_blocks)

    @property
    def num_free(self) -> int:
        """Blocks that nobody holds, findable ones included."""
        return len(self._free)

    @property
    def num_reusable(self) -> int:
        """Blocks that a prefix can hit."""
        return len(self._block_of)

    def holds(self, block_hash: BlockHash) -> bool:
        """Whether a prefix could hit this block now."""
        return block_hash in self._block_of

    def num_shared(self, block_ids: Sequence[int]) -> int:
        """How many of a holder's blocks others hold too."""
        return sum(self._num_refs[block_id] > 1 for block_id in block_ids)

    def match(self, hashes: Sequence[BlockHash]) -> PrefixHit:
        """The longest run of leading blocks that the pool holds. Changes nothing."""
        block_ids: list[int] = []
        for block_hash in hashes:
            block_id = self._block_of.get(block_hash)
            if block_id is None:
                break
            block_ids.append(block_id)
        return PrefixHit(tuple(block_ids))

    def num_available(self, hit: PrefixHit) -> int:
        """Blocks left for allocation once the hit is held."""
        num_unheld_hits = sum(not self._num_refs[block_id] for block_id in hit.block_ids)
        return len(self._free) - num_unheld_hits

    def allocate(self, hit: PrefixHit, num_new: int) -> tuple[int, ...] | NoRoom:
        """Holds the hit and num_new fresh blocks, or changes nothing.

        Args:
            hit: result of `match`, with nothing allocated since.
            num_new: blocks beyond the hit; what they were remembered for is forgotten.

        Returns:
            Block ids in logical order, the hit first.
        """
        num_available = self.num_available(hit)
        if num_new > num_available:
            return NoRoom(num_wanted=num_new, num_free=num_available)
        # The hit first: otherwise its unheld blocks could be the ones handed out as fresh.
        for block_id in hit.block_ids:
            if not self._num_refs[block_id]:
                self._free.remove(block_id)
            self._num_refs[block_id] += 1
        fresh = [self._take_fresh() for _ in range(num_new)]
        return (*hit.block_ids, *fresh)

    def remember(self, block_id: int, block_hash: BlockHash) -> bool:
        """Makes a held, fully computed block findable.

        Returns:
            Whether it is now the block of this hash. A second block of the same content stays
            without a hash: block tables are append-only, so ids must not move.
        """
        if not self.remembers:
            return False
        if block_hash in self._block_of or self._hash_of[block_id] is not None:
            return False
        self._hash_of[block_id] = block_hash
        self._block_of[block_hash] = block_id
        for listener in self._listeners:
            listener.on_remembered(block_hash)
        return True

    def release(self, block_ids: Sequence[int]) -> None:
        """Gives up one hold on each block.

        Args:
            block_ids: logical order. They are let go from the last, so that the tail of a prefix,
                which is useless without its head, is reused first.
        """
        for block_id in reversed(block_ids):
            self._num_refs[block_id] -= 1
            if self._num_refs[block_id]:
                continue
            if self._hash_of[block_id] is None:
                self._free.push_head(block_id)
            else:
                self._free.append_tail(block_id)

    def forget_all(self) -> None:
        """No block can be found any more; for a pool whose blocks cannot be trusted."""
        hashes = list(self._block_of)
        self._block_of.clear()
        self._hash_of = [None] * self.num_blocks
        for listener in self._listeners:
            for block_hash in hashes:
                listener.on_forgotten(block_hash)

    def check_integrity(self, block_tables: Iterable[Sequence[int]]) -> None:
        """Asserts that the books agree with the tables of all live sequences.

        Raises:
            AssertionError: a block is lost, held twice, or found under a wrong hash.
        """
        held = Counter(block_id for table in block_tables for block_id in table)
        free = list(self._free)
        assert len(free) == len(set(free)) == len(self._free), "free list repeats a block"
        for block_id, num_refs in enumerate(self._num_refs):
            assert num_refs == held[block_id], (
                f"block {block_id}: {num_refs} refs, {held[block_id]} held"
            )
        assert set(free) == {b for b, refs in enumerate(self._num_refs) if not refs}, "block lost"
        for block_hash, block_id in self._block_of.items():
            assert self._hash_of[block_id] == block_hash, f"block {block_id} has another hash"
        assert sum(h is not None for h in self._hash_of) == len(self._block_of), (
            "hash without index"
        )

    def _take_fresh(self) -> int:
        block_id = self._free.pop_head()
        block_hash = self._hash_of[block_id]
        if block_hash is not None:
            del self._block_of[block_hash]
            self._hash_of[block_id] = None
            for listener in self._listeners:
                listener.on_forgotten(block_hash)
        self._num_refs[block_id] = 1
        return block_id
