"""K/V blocks by hash, within a byte capacity.

Two rules stand above every eviction policy: a leased block stays until its lease ends, and a
block stays as long as one that continues it is stored, because a chain without its beginning
can never be found again.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from cache_service.eviction import EvictionPolicy
from services.core.blocks import BlockHash, BlockPayload


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds of a store.

    Attributes:
        max_blocks: bounds the bookkeeping, which tiny blocks would let grow past the bytes.
        lease_s: how long blocks stay at least after a lookup found them.
    """

    capacity_bytes: int
    max_blocks: int = 1_000_000
    lease_s: float = 5.0


class PutOutcome(enum.Enum):
    """What became of a block that was offered."""

    STORED = "stored"
    PRESENT = "present"
    TOO_LARGE = "too_large"
    NO_ROOM = "no_room"
    CONFLICT = "conflict"
    """Its hash is here with another layout, or it would be its own ancestor: somebody lies."""


@dataclass(slots=True)
class StoreCounters:
    """Counted since start, in blocks."""

    num_hits: int = 0
    num_misses: int = 0
    num_evictions: int = 0
    num_puts: int = 0
    num_rejected: int = 0


@dataclass(slots=True)
class _Entry:
    block: BlockPayload
    size_bytes: int
    leased_until_s: float = float("-inf")


class BlockStore:
    """Owns the blocks of one process. Not for several threads."""

    def __init__(
        self, limits: StoreLimits, policy: EvictionPolicy, clock: Callable[[], float]
    ) -> None:
        """Starts empty.

        Args:
            limits: bounds.
            policy: fresh; told of every block from now on.
            clock: monotonic seconds.
        """
        self.limits = limits
        self.counters = StoreCounters()
        self._policy = policy
        self._clock = clock
        self._entries: dict[BlockHash, _Entry] = {}
        # Stored continuations per block, also of blocks that are not (or not yet) here.
        self._num_children: Counter[BlockHash] = Counter()
        self._tenant_bytes: Counter[str] = Counter()
        self._size_bytes = 0

    @property
    def num_blocks(self) -> int:
        """Blocks held."""
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Their bytes; never over the capacity."""
        return self._size_bytes

    @property
    def tenant_bytes(self) -> Mapping[str, int]:
        """Bytes held per tenant; tenants without blocks are absent."""
        return MappingProxyType(self._tenant_bytes)

    def lookup(self, hashes: Sequence[BlockHash], layout: str) -> int:
        """How many leading blocks are here; leases them, and counts hits and misses."""
        num_found = self.lease(hashes, layout)
        self.counters.num_hits += num_found
        self.counters.num_misses += len(hashes) - num_found
        return num_found

    def lease(self, hashes: Sequence[BlockHash], layout: str) -> int:
        """Leases and touches the leading blocks that are here; returns how many."""
        num_found = 0
        until_s = self._clock() + self.limits.lease_s
        for block_hash in hashes:
            entry = self._find(block_hash, layout)
            if entry is None:
                break
            entry.leased_until_s = until_s
            num_found += 1
        self.touch_chain(hashes[:num_found])
        return num_found

    def get(self, block_hash: BlockHash, layout: str) -> BlockPayload | None:
        """One block; None if it is not here in this layout."""
        entry = self._find(block_hash, layout)
        return entry.block if entry else None

    def touch_chain(self, hashes: Sequence[BlockHash]) -> None:
        """Marks blocks as used, the last first, so that a chain is coldest at its end."""
        now_s = self._clock()
        for block_hash in reversed(hashes):
            if block_hash in self._entries:
                self._policy.touch(block_hash, now_s)

    def put(self, block: BlockPayload) -> PutOutcome:
        """Keeps a block, if need be in the place of colder ones. Twice is safe.

        The bytes are kept as they are: whoever calls has checked them. Room is made for a block
        as a whole or not at all, and never by evicting what it continues.
        """
        outcome = self._put(block)
        if outcome is PutOutcome.STORED:
            self.counters.num_puts += 1
        elif outcome is not PutOutcome.PRESENT:
            self.counters.num_rejected += 1
        return outcome

    def _put(self, block: BlockPayload) -> PutOutcome:
        now_s = self._clock()
        known = self._entries.get(block.block_hash)
        if known is not None:
            if known.block.layout != block.layout:
                return PutOutcome.CONFLICT
            self._policy.touch(block.block_hash, now_s)
            return PutOutcome.PRESENT
        size_bytes = memoryview(block.data).nbytes
        if size_bytes > self.limits.capacity_bytes:
            return PutOutcome.TOO_LARGE
        if self._is_ancestor(block.block_hash, of=block.parent_hash):
            return PutOutcome.CONFLICT
        victims = self._plan_room(size_bytes, keep=block.parent_hash, now_s=now_s)
        if victims is None:
            return PutOutcome.NO_ROOM
        for victim in victims:
            self._evict(victim)
        self._entries[block.block_hash] = _Entry(block, size_bytes)
        self._policy.add(block.block_hash, now_s)
        self._size_bytes += size_bytes
        self._tenant_bytes[block.tenant] += size_bytes
        if block.parent_hash:
            self._num_children[block.parent_hash] += 1
        return PutOutcome.STORED

    def _find(self, block_hash: BlockHash, layout: str) -> _Entry | None:
        entry = self._entries.get(block_hash)
        return entry if entry is not None and entry.block.layout == layout else None

    def _is_ancestor(self, block_hash: BlockHash, *, of: BlockHash) -> bool:
        # Two blocks that continue each other could never be evicted. Honest hashes cannot.
        if of == block_hash:
            return True
        if block_hash not in self._num_children:
            return False
        while (entry := self._entries.get(of)) is not None:
            of = entry.block.parent_hash
            if of == block_hash:
                return True
        return False

    def _plan_room(
        self, size_bytes: int, *, keep: BlockHash, now_s: float
    ) -> list[BlockHash] | None:
        """The coldest blocks that may go, just enough of them; None if all that may are not."""
        need_bytes = self._size_bytes + size_bytes - self.limits.capacity_bytes
        need_blocks = len(self._entries) + 1 - self.limits.max_blocks
        victims: list[BlockHash] = []
        freed_bytes = 0
        gone_children: Counter[BlockHash] = Counter()
        passed_over: set[BlockHash] = set()

        def is_enough() -> bool:
            return freed_bytes >= need_bytes and len(victims) >= need_blocks

        def may_go(block_hash: BlockHash) -> bool:
            return (
                block_hash != keep
                and self._entries[block_hash].leased_until_s <= now_s
                and self._num_children[block_hash] == gone_children[block_hash]
            )

        if is_enough():
            return victims
        for candidate in self._policy.coldest_first():
            passed_over.add(candidate)
            # A block that was passed over for its continuation is colder than all that follow.
            while candidate in passed_over and may_go(candidate):
                passed_over.discard(candidate)
                entry = self._entries[candidate]
                victims.append(candidate)
                freed_bytes += entry.size_bytes
                if is_enough():
                    return victims
                candidate = entry.block.parent_hash
                gone_children[candidate] += 1
        return None

    def _evict(self, block_hash: BlockHash) -> None:
        entry = self._entries.pop(block_hash)
        self._policy.remove(block_hash)
        self._size_bytes -= entry.size_bytes
        _subtract(self._tenant_bytes, entry.block.tenant, entry.size_bytes)
        if entry.block.parent_hash:
            _subtract(self._num_children, entry.block.parent_hash, 1)
        self.counters.num_evictions += 1


def _subtract(counter: Counter, key: BlockHash | str, amount: int) -> None:
    counter[key] -= amount
    if not counter[key]:
        del counter[key]
