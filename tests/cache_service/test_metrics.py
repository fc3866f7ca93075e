from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from cache_service.block_store import BlockStore, StoreLimits
from cache_service.metrics import StoreCollector
from cache_service.policies.choice import PolicyChoice, PolicyName, PolicySettings
from cache_service.policies.simple import LruPolicy
from cache_service.tiers import TieredStore


def test_scrape_tells_the_store_as_it_is_now(fake_clock, make_block):
    store = BlockStore(StoreLimits(200, lease_s=0), LruPolicy, fake_clock)
    registry = CollectorRegistry()
    registry.register(
        StoreCollector(TieredStore(store), PolicyChoice(PolicyName.LRU, PolicySettings()))
    )
    for number in (1, 2, 3):
        store.put(make_block(number))
    store.lookup([make_block(3).block_hash, make_block(9).block_hash], "layout", "tenant")
    lines = generate_latest(registry).decode().splitlines()
    for line in (
        'tokenmill_cache_hits_total{tenant="tenant",tier="memory"} 1.0',
        'tokenmill_cache_hit_bytes_total{tenant="tenant",tier="memory"} 100.0',
        'tokenmill_cache_misses_total{tenant="tenant"} 1.0',
        'tokenmill_cache_tenant_bytes{tenant="tenant",tier="memory"} 200.0',
        "tokenmill_cache_puts_total 3.0",
        'tokenmill_cache_evictions_total{policy="lru",reason="room",'
        'tenant="tenant",tier="memory"} 1.0',
        'tokenmill_cache_blocks{tier="memory"} 2.0',
        'tokenmill_cache_size_bytes{tier="memory"} 200.0',
        'tokenmill_cache_capacity_bytes{tier="memory"} 200.0',
    ):
        assert line in lines
