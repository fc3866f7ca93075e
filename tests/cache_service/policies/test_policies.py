"""What every policy promises, and what each is for."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from cache_service.policies.hybrid import HybridPolicy
from cache_service.policies.port import EvictionPolicy
from cache_service.policies.queues import S3FifoPolicy, SievePolicy
from cache_service.policies.reuse import ReusePolicy
from cache_service.policies.shadow import Shadow
from cache_service.policies.simple import LfuPolicy, LruPolicy, TtlPolicy

POLICIES: dict[str, Callable[[], EvictionPolicy]] = {
    "lru": LruPolicy,
    "lfu": lambda: LfuPolicy(60.0),
    "ttl": lambda: TtlPolicy(60.0),
    "s3fifo": S3FifoPolicy,
    "sieve": SievePolicy,
    "reuse": ReusePolicy,
    "hybrid": lambda: HybridPolicy(60.0),
}


def _chain(*numbers: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in numbers]


def _conversations(num_requests: int, seed: int) -> list[tuple[float, list[bytes]]]:
    """Some conversations that grow, and twice as many requests that nobody repeats."""
    chance, requests, ids = random.Random(seed), [], iter(range(1, 1_000_000))
    growing = [[next(ids)] for _ in range(20)]
    for idx in range(num_requests):
        if idx % 3:
            requests.append((float(idx), _chain(*(next(ids) for _ in range(6)))))
        else:
            conversation = chance.choice(growing)
            conversation.extend(next(ids) for _ in range(2))
            del conversation[12:]
            requests.append((float(idx), _chain(*conversation)))
    return requests


def _num_hits(policy: EvictionPolicy, requests: list[tuple[float, list[bytes]]]) -> int:
    shadow = Shadow(policy, capacity=100)
    return sum(shadow.access(chain, now_s).num_hits for now_s, chain in requests)


@pytest.mark.parametrize("new_policy", POLICIES.values(), ids=POLICIES)
def test_suffix_goes_before_its_prefix_and_the_room_is_kept(new_policy):
    shadow = Shadow(new_policy(), capacity=40)
    for now_s, chain in _conversations(300, seed=1):
        shadow.access(chain, now_s)
        held = [block_hash in shadow.held for block_hash in chain]
        assert held == sorted(held, reverse=True)
        assert len(shadow.held) <= 40


@pytest.mark.parametrize("new_policy", POLICIES.values(), ids=POLICIES)
def test_order_names_every_leaf_once(new_policy):
    policy = new_policy()
    shadow = Shadow(policy, capacity=100)
    for number in range(10):
        shadow.access(_chain(number * 2 + 1, number * 2 + 2), float(number))
    assert sorted(policy.coldest_first(10.0)) == sorted(_chain(*range(2, 21, 2)))
    # Asking changes nothing that matters.
    assert sorted(policy.coldest_first(10.0)) == sorted(_chain(*range(2, 21, 2)))


class OneByOne:
    """A policy without what it does at once for many blocks."""

    def __init__(self, policy: EvictionPolicy) -> None:
        self.used, self.add, self.remove = policy.used, policy.add, policy.remove
        self.coldest_first = policy.coldest_first


@pytest.mark.parametrize("name", ["lru", "lfu"])
@pytest.mark.parametrize("capacity", [7, 40, 200])
def test_many_blocks_at_once_fare_as_one_by_one(name: str, capacity: int):
    many = Shadow(POLICIES[name](), capacity)
    single = Shadow(OneByOne(POLICIES[name]()), capacity)
    for now_s, chain in _conversations(1000, seed=4):
        assert many.access(chain, now_s).num_hits == single.access(chain, now_s).num_hits
        assert many.held == single.held


@pytest.mark.parametrize("new_policy", POLICIES.values(), ids=POLICIES)
def test_a_chain_that_names_a_block_twice_does_no_harm(new_policy):
    shadow = Shadow(new_policy(), capacity=3)
    for chain in (_chain(1, 2, 2), _chain(1, 3, 1), _chain(4, 5, 6), _chain(2, 1, 2)):
        shadow.access(chain, 0.0)
        assert len(shadow.held) <= 3


def test_many_blocks_at_once_hit_as_often_where_ties_fall_otherwise():
    requests = _conversations(3000, seed=5)
    single = _num_hits(OneByOne(ReusePolicy()), requests)
    assert _num_hits(ReusePolicy(), requests) == pytest.approx(single, rel=0.02)


def test_lru_lets_the_longest_unused_go():
    shadow = Shadow(LruPolicy(), capacity=2)
    for number in (1, 2, 1):
        shadow.access(_chain(number), 0.0)
    assert shadow.access(_chain(3), 0.0).evicted == _chain(2)


def test_lfu_keeps_what_is_used_often_until_that_is_long_ago():
    shadow = Shadow(LfuPolicy(60.0), capacity=2)
    for number in (1, 1, 1, 2):
        shadow.access(_chain(number), 0.0)
    assert shadow.access(_chain(3), 1.0).evicted == _chain(2)
    assert shadow.access(_chain(4), 600.0).evicted == _chain(3)
    assert shadow.access(_chain(5), 601.0).evicted == _chain(1)


def test_lfu_knows_again_what_was_used_often_and_went():
    shadow = Shadow(LfuPolicy(60.0), capacity=2)
    for number in (1, 1, 1, 2, 2, 2, 3, 3, 3, 3):
        shadow.access(_chain(number), 0.0)
    # 1 went for 3; it comes back with its three uses and the one that brought it.
    assert shadow.access(_chain(1), 1.0).evicted == _chain(2)
    assert shadow.access(_chain(4), 2.0).evicted == _chain(4)


def test_sieve_spares_the_visited_once():
    shadow = Shadow(SievePolicy(), capacity=3)
    for number in (1, 2, 3, 1):
        shadow.access(_chain(number), 0.0)
    assert shadow.access(_chain(4), 0.0).evicted == _chain(2)
    assert shadow.access(_chain(5), 0.0).evicted == _chain(3)


def test_reuse_learns_that_one_shot_requests_are_not_worth_room():
    requests = _conversations(3000, seed=2)
    assert _num_hits(ReusePolicy(), requests) > 1.2 * _num_hits(LruPolicy(), requests)


def test_hybrid_is_hardly_worse_than_the_best_expert():
    requests = _conversations(3000, seed=3)
    best = max(_num_hits(POLICIES[name](), requests) for name in POLICIES if name != "hybrid")
    assert _num_hits(POLICIES["hybrid"](), requests) > 0.93 * best
