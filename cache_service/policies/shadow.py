"""A store without bytes: what a policy would keep, and hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cache_service.policies.port import EvictionPolicy
from services.core.blocks import BlockHash


@dataclass(slots=True)
class ShadowAccess:
    """What one request met and changed.

    Attributes:
        num_hits: leading blocks that were there.
        evicted: by this request.
    """

    num_hits: int = 0
    evicted: list[BlockHash] = field(default_factory=list[BlockHash])


class Shadow:
    """Block hashes under one policy, bounded by their number."""

    def __init__(self, policy: EvictionPolicy, capacity: float) -> None:
        self.policy = policy
        self.capacity = capacity
        self.held: set[BlockHash] = set()

    def access(self, chain: Sequence[BlockHash], now_s: float) -> ShadowAccess:
        """A request that uses a chain, and leaves all of it here as far as there is room."""
        access = ShadowAccess()
        for block_hash in chain:
            if block_hash not in self.held:
                break
            access.num_hits += 1
        self.policy.used(chain, now_s)
        held, add = self.held, self.policy.add
        parent = BlockHash()
        for block_hash in chain:
            if block_hash not in held:
                held.add(block_hash)
                add(block_hash, parent, now_s)
            parent = block_hash
        access.evicted = self.trim(now_s)
        return access

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Takes a block that is not here, whether there is room or not."""
        self.held.add(block_hash)
        self.policy.add(block_hash, parent_hash, now_s)

    def trim(self, now_s: float) -> list[BlockHash]:
        """Evicts down to the capacity; returns what went."""
        evicted: list[BlockHash] = []
        while len(self.held) > self.capacity:
            victim = next(self.policy.coldest_first(now_s))
            self.held.remove(victim)
            self.policy.remove(victim)
            evicted.append(victim)
        return evicted
