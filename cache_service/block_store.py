"""K/V blocks by hash, within a byte capacity.

Three rules stand above every eviction policy: a leased block stays until its lease ends; a block
stays as long as one that continues it is stored, because a chain without its beginning can never
be found again; and room is made by the tenant who holds most, so that nobody's appetite is paid
for by others.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType

from cache_service.counters import EvictionReason, StoreCounters, subtract
from cache_service.policies.choice import PolicyFactory
from cache_service.policies.tenants import TenantPolicies
from cache_service.store_rules import PutOutcome, StoreLimits
from services.core.blocks import PUBLIC_TENANT, BlockHash, BlockPayload

Gone = Callable[[BlockPayload, EvictionReason], None]


@dataclass(slots=True)
class _Entry:
    block: BlockPayload
    size_bytes: int
    used_s: float
    leased_until_s: float = float("-inf")


class BlockStore:
    """Owns the blocks of one process. Not for several threads."""

    def __init__(
        self,
        limits: StoreLimits,
        new_policy: PolicyFactory,
        clock: Callable[[], float],
        gone: Gone | None = None,
    ) -> None:
        """Starts empty.

        Args:
            limits: bounds.
            new_policy: makes one for each tenant that has blocks.
            clock: monotonic seconds.
            gone: hears of every block that went, and why.
        """
        self.limits = limits
        self._gone = gone or (lambda block, reason: None)
        self.counters = StoreCounters()
        self._policies = TenantPolicies(new_policy)
        self._clock = clock
        # The longest unused first.
        self._entries: OrderedDict[BlockHash, _Entry] = OrderedDict()
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

    def lookup(
        self,
        hashes: Sequence[BlockHash],
        layout: str,
        tenant: str,
        *,
        num_held: int = 0,
        elsewhere: Callable[[BlockHash], bool] | None = None,
    ) -> int:
        """A request uses a chain: how many blocks are here of those that the reader lacks?

        Leases them, and counts hits and misses. `settle` does the rest, when the reader has gone.

        Args:
            hashes: the whole chain, from its first block on.
            layout: that the reader needs; another one is a miss.
            tenant: whose request it is.
            num_held: leading blocks that the reader has.
            elsewhere: whether another store has a block: it is found, and no hit of this one.
        """
        now_s = self._clock()
        self._policies.used(tenant, hashes, now_s)
        self._policies.used(PUBLIC_TENANT, self._public_run(hashes), now_s)
        lacking = hashes[num_held:]
        num_found = self.lease(lacking, layout, elsewhere=elsewhere)
        self._touch(hashes[:num_held])
        self.count_hits(lacking[:num_found], tenant)
        self.counters.missed(tenant, len(lacking) - num_found)
        return num_found

    def lease(
        self,
        hashes: Sequence[BlockHash],
        layout: str,
        *,
        elsewhere: Callable[[BlockHash], bool] | None = None,
    ) -> int:
        """Leases the leading blocks that are here (or elsewhere); returns how many."""
        num_found = 0
        now_s = self._clock()
        for block_hash in hashes:
            entry = self._find(block_hash, layout)
            if entry is not None:
                entry.leased_until_s = now_s + self.limits.lease_s
            elif elsewhere is None or not elsewhere(block_hash):
                break
            num_found += 1
        self._touch(hashes[:num_found])
        return num_found

    def count_hits(self, hashes: Iterable[BlockHash], tenant: str) -> None:
        """A tenant's request found those of these blocks that are here."""
        found = (self._entries.get(block_hash) for block_hash in hashes)
        self.counters.hit(tenant, [entry.size_bytes for entry in found if entry])

    def holds(self, block_hash: BlockHash, layout: str) -> bool:
        """Whether a block is here in this layout. Uses nothing."""
        return self._find(block_hash, layout) is not None

    def get(self, block_hash: BlockHash, layout: str) -> BlockPayload | None:
        """One block; None if it is not here in this layout."""
        entry = self._find(block_hash, layout)
        return entry.block if entry else None

    def put(self, block: BlockPayload, size_bytes: int | None = None) -> PutOutcome:
        """Keeps a block, if need be in the place of colder ones. Twice is safe.

        The bytes are kept as they are: whoever calls has checked them. Room is made for a block
        as a whole or not at all, and never by evicting what it continues.

        Args:
            block: with its bytes, or without if they lie elsewhere.
            size_bytes: of a block without its bytes.
        """
        outcome = self._put(block, size_bytes)
        if outcome is PutOutcome.STORED:
            self.counters.num_puts += 1
        elif outcome is not PutOutcome.PRESENT:
            self.counters.num_rejected += 1
        return outcome

    def settle(self) -> None:
        """Lets the policies learn of lookups; before the next put at the latest."""
        self._policies.settle()

    def sweep(self) -> int:
        """Lets go of blocks that were unused for `ttl_s`; returns how many."""
        now_s, num_before = self._clock(), self.num_blocks
        expired: list[BlockHash] = []
        for block_hash, entry in self._entries.items():
            if entry.used_s + self.limits.ttl_s > now_s:
                break
            expired.append(block_hash)
        for block_hash in expired:
            # What continued it may have been the last to expire: then it goes with that.
            while self._may_go(block_hash, now_s):
                if self._entries[block_hash].used_s + self.limits.ttl_s > now_s:
                    break
                block = self._remove(block_hash).block
                self.counters.evicted(EvictionReason.EXPIRED, block.tenant)
                self._gone(block, EvictionReason.EXPIRED)
                block_hash = block.parent_hash
        return num_before - self.num_blocks

    def use_policy(self, new_policy: PolicyFactory) -> None:
        """Orders the blocks that are here, and all to come, by another policy."""
        self._policies = TenantPolicies(new_policy)
        for block_hash, entry in self._entries.items():
            block = entry.block
            self._policies.of(block.tenant).add(block_hash, block.parent_hash, entry.used_s)

    def _public_run(self, hashes: Sequence[BlockHash]) -> list[BlockHash]:
        """Leading blocks that all tenants share: each one's use counts where they are kept."""
        entries = (self._entries.get(block_hash) for block_hash in hashes)
        run = takewhile(lambda entry: entry and entry.block.tenant == PUBLIC_TENANT, entries)
        return [entry.block.block_hash for entry in run if entry]

    def _touch(self, hashes: Sequence[BlockHash]) -> None:
        now_s = self._clock()
        for block_hash in reversed(hashes):
            entry = self._entries.get(block_hash)
            if entry is not None:
                entry.used_s = now_s
                self._entries.move_to_end(block_hash)

    def _put(self, block: BlockPayload, size_bytes: int | None) -> PutOutcome:
        known = self._entries.get(block.block_hash)
        if known is not None:
            same = known.block.layout == block.layout
            return PutOutcome.PRESENT if same else PutOutcome.CONFLICT
        if size_bytes is None:
            size_bytes = memoryview(block.data).nbytes
        if size_bytes > min(self.limits.capacity_bytes, self.limits.tenant_bytes):
            return PutOutcome.TOO_LARGE
        if self._is_ancestor(block.block_hash, of=block.parent_hash):
            return PutOutcome.CONFLICT
        if not self._make_room(size_bytes, block.tenant, keep=block.parent_hash):
            return PutOutcome.NO_ROOM
        self._insert(_Entry(block, size_bytes, self._clock()))
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

    def _make_room(self, size_bytes: int, tenant: str, *, keep: BlockHash) -> bool:
        """Evicts just enough of the coldest blocks that may go; none if they are not enough."""
        limits = self.limits
        gone: list[tuple[EvictionReason, _Entry]] = []
        while True:
            if self._tenant_bytes[tenant] + size_bytes > limits.tenant_bytes:
                reason, tenants = EvictionReason.QUOTA, [tenant]
            elif (
                self._size_bytes + size_bytes > limits.capacity_bytes
                or len(self._entries) + 1 > limits.max_blocks
            ):
                reason, tenants = EvictionReason.ROOM, self._largest_first(tenant, size_bytes)
            else:
                break
            victim = self._coldest(tenants, keep)
            if victim is None:
                for _, entry in reversed(gone):
                    self._insert(entry)
                return False
            gone.append((reason, self._remove(victim)))
        for reason, entry in gone:
            self.counters.evicted(reason, entry.block.tenant)
            self._gone(entry.block, reason)
        return True

    def _largest_first(self, tenant: str, size_bytes: int) -> list[str]:
        wanted = {**self._tenant_bytes, tenant: self._tenant_bytes[tenant] + size_bytes}
        return sorted(wanted, key=lambda name: -wanted[name])

    def _coldest(self, tenants: Sequence[str], keep: BlockHash) -> BlockHash | None:
        now_s = self._clock()
        for tenant in tenants:
            for block_hash in self._policies.coldest_first(tenant, now_s):
                if block_hash != keep and self._may_go(block_hash, now_s):
                    return block_hash
        return None

    def _may_go(self, block_hash: BlockHash, now_s: float) -> bool:
        entry = self._entries.get(block_hash)
        return (
            entry is not None
            and entry.leased_until_s <= now_s
            and block_hash not in self._num_children
        )

    def _insert(self, entry: _Entry) -> None:
        block = entry.block
        self._entries[block.block_hash] = entry
        self._policies.of(block.tenant).add(block.block_hash, block.parent_hash, self._clock())
        self._size_bytes += entry.size_bytes
        self._tenant_bytes[block.tenant] += entry.size_bytes
        if block.parent_hash:
            self._num_children[block.parent_hash] += 1

    def _remove(self, block_hash: BlockHash) -> _Entry:
        entry = self._entries.pop(block_hash)
        tenant = entry.block.tenant
        self._policies.of(tenant).remove(block_hash)
        self._size_bytes -= entry.size_bytes
        subtract(self._tenant_bytes, tenant, entry.size_bytes)
        if tenant not in self._tenant_bytes:
            self._policies.rest(tenant, self._tenant_bytes)
        if entry.block.parent_hash:
            subtract(self._num_children, entry.block.parent_hash, 1)
        return entry
