"""The commands' side of a real cache service."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tokenmill.v1.cache_pb2_grpc import add_CacheServiceServicer_to_server

from cache_service.block_store import BlockStore
from cache_service.policies.choice import PolicyChoice, PolicyName, PolicySettings
from cache_service.policies.simple import LruPolicy
from cache_service.servicer import CacheServicer, ServiceLimits
from cache_service.store_rules import StoreLimits
from cache_service.tiers import TieredStore
from services.cli.cache.services import cache_targets, set_policy, stats_of
from services.cli.failure import CommandFailed
from services.runtime.rpc_server import RpcServer


@pytest.fixture
async def target() -> AsyncIterator[str]:
    server = RpcServer()
    servicer = CacheServicer(
        TieredStore(BlockStore(StoreLimits(1 << 20), LruPolicy, time.monotonic)),
        ServiceLimits(64, 1 << 20, max_concurrent_puts=2, put_idle_timeout_s=5.0),
        PolicyChoice(PolicyName.LRU, PolicySettings()),
    )
    server.add(add_CacheServiceServicer_to_server, servicer, "tokenmill.v1.CacheService")
    yield f"127.0.0.1:{await server.start('127.0.0.1', 0)}"
    await server.stop(0)


async def test_a_policy_is_changed_while_the_service_runs(target: str, tmp_path: Path):
    targets = cache_targets(tmp_path, f"{target}, {target}")
    assert targets == {target: target}
    assert (await asyncio.to_thread(stats_of, targets))[target].policy == "lru"
    await asyncio.to_thread(set_policy, targets, "hybrid")
    assert (await asyncio.to_thread(stats_of, targets))[target].policy == "hybrid"
    with pytest.raises(CommandFailed, match="allowed: lru, lfu, ttl, hybrid"):
        await asyncio.to_thread(set_policy, targets, "best")
    with pytest.raises(CommandFailed, match="cache service gone"):
        await asyncio.to_thread(stats_of, {"gone": "127.0.0.1:1"})
