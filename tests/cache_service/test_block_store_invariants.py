"""Random histories against the promises of the store."""

from __future__ import annotations

import zlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cache_service.block_store import BlockStore, PutOutcome, StoreLimits
from cache_service.policies.choice import PolicyChoice, PolicyName, PolicySettings
from cache_service.policies.simple import LruPolicy
from services.core.blocks import BlockPayload

CAPACITY_BYTES = 64
LEASE_S = 5.0
NUMBERS = st.integers(min_value=0, max_value=11)


def _hash(number: int) -> bytes:
    return number.to_bytes(16, "big")


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        limits = StoreLimits(CAPACITY_BYTES, max_blocks=8, lease_s=LEASE_S)
        self.store = BlockStore(limits, LruPolicy, lambda: self.now_s)
        self.kept: dict[bytes, BlockPayload] = {}
        self.leased_until_s: dict[bytes, float] = {}

    @rule(number=NUMBERS, parent=st.none() | NUMBERS, size=st.integers(1, 70))
    def put(self, number: int, parent: int | None, size: int) -> None:
        data = bytes([number]) * size
        parent_hash = b"" if parent is None else _hash(parent)
        block = BlockPayload(_hash(number), parent_hash, "l", "t", data, zlib.crc32(data))
        before = self._present()
        outcome = self.store.put(block)
        after = self._present()
        if outcome is PutOutcome.STORED:
            self.kept[block.block_hash] = block
            assert block.block_hash in after
            assert parent_hash not in before or parent_hash in after
        else:
            assert after == before
        evicted = before - after
        assert not any(self.kept[block_hash].parent_hash in evicted for block_hash in after)

    @rule(numbers=st.lists(NUMBERS, max_size=5))
    def lookup(self, numbers: list[int]) -> None:
        hashes = [_hash(number) for number in numbers]
        for block_hash in hashes[: self.store.lookup(hashes, "l", "t")]:
            self.leased_until_s[block_hash] = self.now_s + LEASE_S

    @rule(name=st.sampled_from(PolicyName))
    def change_policy(self, name: PolicyName) -> None:
        self.store.use_policy(PolicyChoice(name, PolicySettings()).factory())

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def _present(self) -> set[bytes]:
        return {_hash(n) for n in range(12) if self.store.get(_hash(n), "l") is not None}

    @invariant()
    def holds_what_it_counts_and_never_too_much(self) -> None:
        present = self._present()
        size_bytes = sum(len(self.kept[block_hash].data) for block_hash in present)
        assert self.store.size_bytes == size_bytes <= CAPACITY_BYTES
        assert self.store.tenant_bytes.get("t", 0) == size_bytes
        assert self.store.num_blocks == len(present) <= 8

    @invariant()
    def leased_blocks_are_here(self) -> None:
        present = self._present()
        for block_hash, until_s in self.leased_until_s.items():
            assert block_hash in present or self.now_s >= until_s

    @invariant()
    def bytes_are_those_that_were_put(self) -> None:
        for block_hash in self._present():
            assert self.store.get(block_hash, "l") == self.kept[block_hash]


StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
TestStore = StoreMachine.TestCase
