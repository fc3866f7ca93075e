"""A store without bytes: what a policy would keep, and hit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cache_service.policies.port import EvictionPolicy, RunPolicy
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
        self._runs = policy if isinstance(policy, RunPolicy) else None

    def access(self, chain: Sequence[BlockHash], now_s: float) -> ShadowAccess:
        """A request that uses a chain, and leaves all of it here as far as there is room."""
        access = ShadowAccess()
        for block_hash in chain:
            if block_hash not in self.held:
                break
            access.num_hits += 1
        self.policy.used(chain, now_s)
        self._take(chain, now_s)
        access.evicted = self.trim(now_s)
        return access

    def add(self, block_hash: BlockHash, parent_hash: BlockHash, now_s: float) -> None:
        """Takes a block that is not here, whether there is room or not."""
        self.held.add(block_hash)
        self.policy.add(block_hash, parent_hash, now_s)

    def trim(self, now_s: float) -> list[BlockHash]:
        """Evicts down to the capacity; returns what went."""
        if len(self.held) <= self.capacity:
            return []
        evicted = self._evict(len(self.held) - math.floor(self.capacity), now_s)
        self.held.difference_update(evicted)
        return evicted

    def _take(self, chain: Sequence[BlockHash], now_s: float) -> None:
        """Takes what is not here of it: mostly its end."""
        held = self.held
        run: list[BlockHash] = []
        parent = run_parent = BlockHash()
        for block_hash in chain:
            if block_hash in held:
                if run:
                    self._add_run(run, run_parent, now_s)
                    run = []
            else:
                if not run:
                    run_parent = parent
                held.add(block_hash)
                run.append(block_hash)
            parent = block_hash
        if run:
            self._add_run(run, run_parent, now_s)

    def _add_run(self, run: Sequence[BlockHash], parent_hash: BlockHash, now_s: float) -> None:
        if self._runs is not None:
            self._runs.add_run(run, parent_hash, now_s)
            return
        for block_hash in run:
            self.policy.add(block_hash, parent_hash, now_s)
            parent_hash = block_hash

    def _evict(self, num_blocks: int, now_s: float) -> list[BlockHash]:
        if self._runs is not None:
            return self._runs.evict(num_blocks, now_s)
        evicted: list[BlockHash] = []
        for _ in range(num_blocks):
            victim = next(self.policy.coldest_first(now_s))
            self.policy.remove(victim)
            evicted.append(victim)
        return evicted
