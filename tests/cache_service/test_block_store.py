from __future__ import annotations

import pytest

from cache_service.block_store import BlockStore, PutOutcome, StoreLimits
from cache_service.counters import EvictionReason
from cache_service.policies.choice import PolicyChoice, PolicyName, PolicySettings
from cache_service.policies.simple import LruPolicy


@pytest.fixture
def make_store(fake_clock):
    def make(capacity_bytes: int = 300, **limits) -> BlockStore:
        return BlockStore(StoreLimits(capacity_bytes, **limits), LruPolicy, fake_clock)

    return make


def _hashes(*numbers: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in numbers]


def _held(store: BlockStore, *numbers: int) -> list[int]:
    return [n for n in numbers if store.get(_hashes(n)[0], "layout") is not None]


def test_put_block_is_found_with_its_bytes(make_store, make_block):
    store = make_store()
    block = make_block(1)
    assert store.put(block) is PutOutcome.STORED
    assert store.lookup(_hashes(1), "layout", "tenant") == 1
    assert store.get(block.block_hash, "layout") == block


def test_second_put_of_a_block_changes_nothing(make_store, make_block):
    store = make_store()
    store.put(make_block(1))
    assert store.put(make_block(1)) is PutOutcome.PRESENT
    assert (store.num_blocks, store.size_bytes, store.counters.num_puts) == (1, 100, 1)


def test_another_layout_is_a_miss(make_store, make_block):
    store = make_store()
    store.put(make_block(1))
    assert store.lookup(_hashes(1), "other", "tenant") == 0
    assert store.get(*_hashes(1), "other") is None


def test_same_hash_with_another_layout_is_turned_away(make_store, make_block):
    store = make_store()
    store.put(make_block(1))
    assert store.put(make_block(1, layout="other")) is PutOutcome.CONFLICT
    assert store.lookup(_hashes(1), "layout", "tenant") == 1


def test_lookup_counts_only_the_leading_run(make_store, make_block):
    store = make_store()
    store.put(make_block(1))
    store.put(make_block(3))
    assert store.lookup(_hashes(1, 2, 3), "layout", "tenant") == 1
    assert (store.counters.num_hits, store.counters.num_misses) == (1, 2)


def test_least_recently_used_block_is_evicted(make_store, make_block, fake_clock):
    store = make_store(lease_s=0)
    for number in (1, 2, 3):
        store.put(make_block(number))
    store.lookup(_hashes(1), "layout", "tenant")
    assert store.put(make_block(4)) is PutOutcome.STORED
    assert _held(store, 1, 2, 3, 4) == [1, 3, 4]
    assert store.counters.num_evictions == 1


def test_leased_block_is_not_evicted_until_the_lease_ends(make_store, make_block, fake_clock):
    store = make_store(capacity_bytes=100, lease_s=5)
    store.put(make_block(1))
    store.lookup(_hashes(1), "layout", "tenant")
    fake_clock.now_s += 4.9
    assert store.put(make_block(2)) is PutOutcome.NO_ROOM
    fake_clock.now_s += 0.1
    assert store.put(make_block(2)) is PutOutcome.STORED
    assert _held(store, 1, 2) == [2]


def test_suffix_is_evicted_before_its_prefix(make_store, make_block):
    store = make_store()
    for number, parent in ((1, None), (2, 1), (3, 2)):
        store.put(make_block(number, parent=parent))
    store.put(make_block(4))
    assert _held(store, 1, 2, 3, 4) == [1, 2, 4]


def test_whole_chain_may_go_from_its_end_in_one_put(make_store, make_block):
    store = make_store()
    for number, parent in ((1, None), (2, 1), (3, 2)):
        store.put(make_block(number, parent=parent))
    assert store.put(make_block(4, size_bytes=300)) is PutOutcome.STORED
    assert _held(store, 1, 2, 3, 4) == [4]


def test_block_is_not_stored_in_the_place_of_what_it_continues(make_store, make_block):
    store = make_store(capacity_bytes=200)
    store.put(make_block(1))
    store.put(make_block(2, parent=1))
    assert store.put(make_block(3, parent=2)) is PutOutcome.NO_ROOM
    assert _held(store, 1, 2, 3) == [1, 2]


def test_block_over_the_capacity_is_turned_away(make_store, make_block):
    store = make_store()
    store.put(make_block(1))
    assert store.put(make_block(2, size_bytes=301)) is PutOutcome.TOO_LARGE
    assert _held(store, 1, 2) == [1]


def test_nothing_is_evicted_for_a_block_that_finds_no_room_in_the_end(
    make_store, make_block, fake_clock
):
    store = make_store()
    for number in (1, 2, 3):
        store.put(make_block(number))
    store.lookup(_hashes(1), "layout", "tenant")
    assert store.put(make_block(4, size_bytes=300)) is PutOutcome.NO_ROOM
    assert _held(store, 1, 2, 3) == [1, 2, 3]
    assert store.counters.num_rejected == 1


def test_number_of_blocks_is_bounded_beside_their_bytes(make_store, make_block):
    store = make_store(max_blocks=2)
    for number in (1, 2, 3):
        assert store.put(make_block(number, size_bytes=1)) is PutOutcome.STORED
    assert _held(store, 1, 2, 3) == [2, 3]


def test_bytes_are_counted_per_tenant(make_store, make_block):
    store = make_store()
    store.put(make_block(1, tenant="a"))
    store.put(make_block(2, tenant="b", size_bytes=50))
    store.put(make_block(3, tenant="b", size_bytes=150))
    assert store.tenant_bytes == {"a": 100, "b": 200}
    store.put(make_block(4, tenant="b"))
    assert store.tenant_bytes == {"a": 100, "b": 100}


def test_blocks_that_continue_each_other_are_turned_away(make_store, make_block):
    store = make_store(capacity_bytes=1000)
    assert store.put(make_block(1, parent=1)) is PutOutcome.CONFLICT
    store.put(make_block(2, parent=4))
    store.put(make_block(3, parent=2))
    assert store.put(make_block(4, parent=3)) is PutOutcome.CONFLICT
    assert store.num_blocks == 2


def test_beginning_that_comes_after_its_continuation_stays_with_it(make_store, make_block):
    store = make_store()
    store.put(make_block(2, parent=1))
    store.put(make_block(1))
    store.put(make_block(3))
    store.put(make_block(4))
    assert _held(store, 1, 2, 3, 4) == [1, 3, 4]


def test_room_is_made_by_the_tenant_who_holds_most(make_store, make_block):
    store = make_store()
    store.put(make_block(1, tenant="small"))
    store.put(make_block(2, tenant="large"))
    store.put(make_block(3, tenant="large"))
    assert store.put(make_block(4, tenant="large")) is PutOutcome.STORED
    assert _held(store, 1, 2, 3, 4) == [1, 3, 4]


def test_tenant_over_its_quota_pays_for_itself(make_store, make_block):
    store = make_store(tenant_bytes=200)
    store.put(make_block(1, tenant="a"))
    for number in (2, 3, 4):
        assert store.put(make_block(number, tenant="b")) is PutOutcome.STORED
    assert _held(store, 1, 2, 3, 4) == [1, 3, 4]
    assert store.counters.evictions == {(EvictionReason.QUOTA, "b"): 1}
    assert store.put(make_block(5, tenant="b", size_bytes=201)) is PutOutcome.TOO_LARGE


def test_sweep_lets_unused_chains_go(make_store, make_block, fake_clock):
    store = make_store(ttl_s=60, lease_s=0)
    for number, parent in ((1, None), (2, 1), (3, None)):
        store.put(make_block(number, parent=parent))
    fake_clock.now_s += 40
    store.lookup(_hashes(3), "layout", "tenant")
    fake_clock.now_s += 30
    assert store.sweep() == 2
    assert _held(store, 1, 2, 3) == [3]
    assert store.counters.evictions == {(EvictionReason.EXPIRED, "tenant"): 2}


def test_blocks_that_the_reader_has_are_used_but_not_counted(make_store, make_block):
    store = make_store()
    for number, parent in ((1, None), (2, 1)):
        store.put(make_block(number, parent=parent))
    assert store.lookup(_hashes(1, 2, 3), "layout", "tenant", num_held=1) == 1
    assert (store.counters.num_hits, store.counters.num_misses) == (1, 1)


def test_what_was_learned_outlives_the_last_block_of_the_latest_tenants(fake_clock, make_block):
    made = []

    def new_policy():
        made.append(LruPolicy())
        return made[-1]

    store = BlockStore(StoreLimits(1000, ttl_s=10), new_policy, fake_clock)
    for number in [*range(50), 49, 0]:
        store.put(make_block(number + 1, tenant=f"tenant-{number}"))
        fake_clock.now_s += 60
        assert store.sweep() == 1
    # Once for each, and again for the one that was gone for long.
    assert len(made) == 51


@pytest.mark.parametrize("name", list(PolicyName))
def test_policy_changes_under_the_blocks_that_are_here(make_store, make_block, name):
    store = make_store()
    for number, parent in ((1, None), (2, 1), (3, 2)):
        store.put(make_block(number, parent=parent))
    store.use_policy(PolicyChoice(name, PolicySettings()).factory())
    assert _held(store, 1, 2, 3) == [1, 2, 3]
    assert store.put(make_block(4)) is PutOutcome.STORED
    assert _held(store, 1, 2, 3, 4) == [1, 2, 4]
