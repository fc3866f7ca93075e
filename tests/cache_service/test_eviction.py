from __future__ import annotations

from cache_service.eviction import LruPolicy


def test_lru_orders_by_latest_use():
    policy = LruPolicy()
    for name in (b"a", b"b", b"c"):
        policy.add(name, 0.0)
    policy.touch(b"a", 1.0)
    assert list(policy.coldest_first()) == [b"b", b"c", b"a"]


def test_lru_forgets_a_removed_block():
    policy = LruPolicy()
    policy.add(b"a", 0.0)
    policy.add(b"b", 0.0)
    policy.remove(b"a")
    assert list(policy.coldest_first()) == [b"b"]
