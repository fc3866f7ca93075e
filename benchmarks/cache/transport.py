"""How fast blocks come from a cache service on this host: shared memory, messages, bare memcpy."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from services.core.blocks import BlockLayout, BlockPayload
from services.runtime.allocator import keep_freed_memory
from services.runtime.checksum import crc32
from services.runtime.rpc_client import open_channel
from services.runtime.shared_memory import CacheTransport
from services.wire.cache import BlockQuery
from worker.cache.block_check import check_blocks
from worker.cache.client import CacheClient
from worker.cache.fetch import batches
from worker.engine.block_import import copy_blocks
from worker.engine.kv_pool import KvPool, block_bytes

LAYOUT = BlockLayout("bfloat16", num_layers=30, num_kv_heads=3, head_dim=64, block_size=32)
"""The default model's blocks."""

_TENANT = "bench"
_TIMEOUT_S = 30.0
_WARM_UP = 2

_checker = ThreadPoolExecutor(1)


class NoService(Exception):
    """The cache service did not start."""


@dataclass(frozen=True, slots=True)
class TransportPlan:
    """How much is measured.

    Attributes:
        num_blocks: that are fetched at once; 47 are a prompt of 1,500 tokens.
        num_chains: so many different ones in turn, so that no processor cache holds them all.
        num_rounds: measured, all ways in each.
    """

    num_blocks: int = 47
    num_chains: int = 4
    num_rounds: int = 40


def measure_transport(plan: TransportPlan) -> dict[str, Any]:
    """Medians over rounds; in each round all ways, one after the other.

    Raises:
        NoService: the cache service did not start.
    """
    # As in a worker.
    keep_freed_memory()
    with _service(plan) as port:
        return asyncio.run(_measure(plan, port))


async def _measure(plan: TransportPlan, port: int) -> dict[str, Any]:
    chains = [_chain(plan.num_blocks) for _ in range(plan.num_chains)]
    pool = KvPool(LAYOUT, plan.num_blocks, torch.device("cpu"))
    copy = np.zeros((plan.num_blocks, block_bytes(LAYOUT)), np.uint8)
    timings: dict[str, list[float]] = {}

    def took(name: str, started_s: float) -> float:
        now_s = time.perf_counter()
        timings.setdefault(name, []).append((now_s - started_s) / plan.num_blocks)
        return now_s

    async with AsyncExitStack() as stack:
        clients: dict[str, CacheClient] = {}
        for name, transport in (
            ("shared_memory", CacheTransport.SHM),
            ("grpc", CacheTransport.GRPC),
        ):
            channel = await stack.enter_async_context(open_channel(f"127.0.0.1:{port}"))
            clients[name] = CacheClient(channel, transport)
            stack.callback(clients[name].close)
            await clients[name].lookup(_query(chains[0]), timeout_s=_TIMEOUT_S)
            for chain in (_chain(plan.num_blocks) for _ in range(_WARM_UP)):
                started_s = time.perf_counter()
                await clients[name].put(chain, timeout_s=_TIMEOUT_S)
                took(f"{name}_put", started_s)
        for chain in chains:
            await clients["shared_memory"].put(chain, timeout_s=_TIMEOUT_S)
        for number in range(plan.num_rounds + plan.num_chains):
            if number == plan.num_chains:
                timings = {name: those for name, those in timings.items() if name.endswith("_put")}
            chain = chains[number % plan.num_chains]
            started_s = time.perf_counter()
            for place, block in zip(copy, chain, strict=True):
                place[:] = np.frombuffer(block.data, np.uint8)
            took("memcpy", started_s)
            for name, client in clients.items():
                await _fetch(client, chain, pool, name, took)
    return _report(plan, timings)


async def _fetch(
    client: CacheClient,
    chain: Sequence[BlockPayload],
    pool: KvPool,
    name: str,
    took: Callable[[str, float], float],
) -> None:
    hashes = [block.block_hash for block in chain]
    started_s = at_s = time.perf_counter()
    query = BlockQuery(tuple(hashes), LAYOUT.text(), _TENANT)
    found = await client.lookup(query, timeout_s=_TIMEOUT_S)
    blocks = list(found.blocks)
    if len(blocks) < len(hashes):
        rest = hashes[len(blocks) :]
        stream = client.get(rest, head=hashes[0], layout=LAYOUT.text(), timeout_s=_TIMEOUT_S)
        blocks += [block async for block in stream]
    at_s = took(f"{name}_call", at_s)
    assert len(blocks) == len(chain), "blocks are missing"
    # As in a worker: some are summed up while others are copied.
    parts = list(batches(len(blocks)))
    checks = [_checker.submit(check_blocks, blocks[some], hashes[some], LAYOUT) for some in parts]
    for some, check in zip(parts, checks, strict=True):
        checked = check.result()
        assert not checked.fault, checked.fault
        num_copied = copy_blocks(pool, list(enumerate(checked.blocks, some.start)))
        assert num_copied == len(checked.blocks), "a block was overwritten"
    took(f"{name}_use", at_s)
    took(name, started_s)


def _report(plan: TransportPlan, timings: dict[str, list[float]]) -> dict[str, Any]:
    size_bytes = block_bytes(LAYOUT)
    block_s = {name: median(those) for name, those in timings.items()}
    rates = {name: size_bytes / s / 1e9 for name, s in block_s.items()}
    parts = ("call", "use")
    ways = {
        name: {
            "gb_per_s": round(rates[name], 2),
            "us_per_block": round(block_s[name] * 1e6, 1),
            "us_per_block_by_part": {
                part: round(block_s[f"{name}_{part}"] * 1e6, 1) for part in parts
            },
            "put_gb_per_s": round(rates[f"{name}_put"], 2),
        }
        for name in ("shared_memory", "grpc")
    }
    return {
        "block_bytes": size_bytes,
        "num_blocks": plan.num_blocks,
        "num_rounds": plan.num_rounds,
        "memcpy": {
            "gb_per_s": round(rates["memcpy"], 2),
            "us_per_block": round(block_s["memcpy"] * 1e6, 1),
        },
        **ways,
        "shared_memory_of_memcpy": round(rates["shared_memory"] / rates["memcpy"], 3),
        "num_cpus": os.cpu_count(),
    }


def _chain(num_blocks: int) -> list[BlockPayload]:
    blocks: list[BlockPayload] = []
    parent = b""
    for _ in range(num_blocks):
        content = secrets.token_bytes(block_bytes(LAYOUT))
        block_hash = secrets.token_bytes(16)
        blocks.append(
            BlockPayload(block_hash, parent, LAYOUT.text(), _TENANT, content, crc32(content))
        )
        parent = block_hash
    return blocks


def _query(chain: Sequence[BlockPayload]) -> BlockQuery:
    hashes = tuple(block.block_hash for block in chain)
    return BlockQuery(hashes, LAYOUT.text(), _TENANT, is_offer=True)


@contextmanager
def _service(plan: TransportPlan) -> Iterator[int]:
    num_blocks = plan.num_blocks * (plan.num_chains + 2 * _WARM_UP + 1)
    environment = {
        **os.environ,
        "TOKENMILL_CAPACITY_BYTES": str(num_blocks * block_bytes(LAYOUT)),
        "TOKENMILL_CACHE_TRANSPORT": CacheTransport.SHM.value,
        "TOKENMILL_GRPC_PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "cache_service.main"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "rpc.listening":
                yield event["port"]
                return
        raise NoService("the cache service ended before it listened")
    finally:
        process.terminate()
        process.communicate()
