"""Starts the KV cache service."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import REGISTRY
from tokenmill.v1.cache_pb2_grpc import add_CacheServiceServicer_to_server

from cache_service.arena import open_arena
from cache_service.block_store import BlockStore
from cache_service.counters import EvictionReason
from cache_service.disk_tier import DiskTier, open_disk
from cache_service.metrics import StoreCollector
from cache_service.policies.choice import PolicyChoice, PolicySettings
from cache_service.servicer import CacheServicer, ServiceLimits
from cache_service.settings import CacheSettings
from cache_service.store_rules import StoreLimits
from cache_service.tiers import TieredStore
from services.core.blocks import BlockPayload
from services.runtime.allocator import keep_freed_memory
from services.runtime.bounded_label import TENANT_LABEL
from services.runtime.lifecycle import Process, run_process
from services.runtime.logs import get_logger
from services.runtime.rpc_server import RpcServer

log = get_logger(__name__)

FLUSH_TIMEOUT_S = 5.0


async def main(process: Process[CacheSettings]) -> None:
    """Serves until told to stop, then lets running calls finish."""
    settings = process.settings
    TENANT_LABEL.max_values = settings.metrics_max_tenants
    keep_freed_memory()
    policies = PolicyChoice(
        settings.policy, PolicySettings(settings.ttl_s, settings.lfu_half_life_s)
    )
    store = _open_store(process, policies)
    REGISTRY.register(StoreCollector(store, policies))
    limits = ServiceLimits(
        max_hashes=settings.max_hashes,
        max_block_bytes=settings.max_block_bytes,
        max_concurrent_puts=settings.max_concurrent_puts,
        put_idle_timeout_s=settings.put_idle_timeout_s,
    )
    server = RpcServer(max_concurrent_rpcs=settings.max_concurrent_rpcs)
    server.add(
        add_CacheServiceServicer_to_server,
        CacheServicer(store, limits, policies),
        "tokenmill.v1.CacheService",
    )
    port = await server.start(settings.host, settings.grpc_port)
    await server.set_ready(True)
    log.info("rpc.listening", port=port, capacity_bytes=settings.capacity_bytes)
    process.spawn(_sweep(store, settings.sweep_interval_s), name="sweep")
    await process.stop_requested.wait()
    await server.stop(settings.drain_timeout_s)
    if store.disk is not None:
        await store.disk.flush(FLUSH_TIMEOUT_S)


def _open_store(process: Process[CacheSettings], policies: PolicyChoice) -> TieredStore:
    settings, limits = process.settings, _store_limits(process.settings)
    disk: DiskTier | None = None
    if settings.disk_path is not None:
        choice = PolicyChoice(
            settings.disk_policy, PolicySettings(settings.ttl_s, settings.lfu_half_life_s)
        )
        disk = open_disk(
            settings.disk_path,
            settings.disk_bytes,
            limits,
            (choice.name, choice.factory()),
            time.monotonic,
            max_queued_bytes=settings.disk_queue_bytes,
        )
    arena = open_arena(settings.capacity_bytes, settings.cache_transport)
    if arena is not None:
        process.stack.callback(arena.close)
    if disk is None:
        return TieredStore(BlockStore(limits, policies.factory(), time.monotonic), arena=arena)
    process.spawn(disk.run(), name="disk")

    def evicted(block: BlockPayload, reason: EvictionReason) -> None:
        if reason is not EvictionReason.EXPIRED:
            # Mostly there already; a second chance for what came when too many waited.
            disk.offer(block)

    memory = BlockStore(limits, policies.factory(), time.monotonic, evicted)
    return TieredStore(memory, disk, arena)


def _store_limits(settings: CacheSettings) -> StoreLimits:
    return StoreLimits(
        settings.capacity_bytes,
        settings.max_blocks,
        settings.lease_ms / 1000,
        float("inf") if settings.tenant_bytes is None else settings.tenant_bytes,
        settings.ttl_s,
    )


async def _sweep(store: TieredStore, interval_s: float) -> None:
    while True:
        await asyncio.sleep(interval_s)
        num_blocks = store.sweep()
        if num_blocks:
            log.info("blocks.expired", num_blocks=num_blocks)


if __name__ == "__main__":
    run_process("cache", CacheSettings, main)
