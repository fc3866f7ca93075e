"""A cache can only help: found blocks are used, everything else is a recompute."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from opentelemetry.context import Context

from services.core.block_names import BlockNames
from services.core.blocks import BlockPayload, block_hashes, chain_root
from services.core.request import QueuedRequest
from services.runtime.rpc_client import open_channel
from tests.worker.fake_cache import (
    FakeCache,
    Lie,
    flipped,
    of_another_layout,
    renamed,
    shortened,
)
from tests.worker.fake_stepper import FakeStepper
from tests.worker.rig import make_request
from worker.cache.client import CacheClient
from worker.cache.fetch import CHECKED_AT_ONCE, CacheFetcher, FetchTimeouts
from worker.delivery.circuit_breaker import CircuitBreaker

BLOCK_BYTES = 8


@dataclass
class Setting:
    engine: FakeStepper
    cache: FakeCache
    fetcher: CacheFetcher
    breaker: CircuitBreaker
    clock_s: list[float]
    request: QueuedRequest

    async def fetch(self) -> None:
        await self.fetcher.fetch(self.request, Context())

    def imported(self) -> int:
        return len(self.engine.imported)


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    engine, clock_s = FakeStepper(), [0.0]
    breaker = CircuitBreaker(clock=lambda: clock_s[0])
    timeouts = FetchTimeouts(lookup_s=0.5, get_s=0.5, per_block_s=0.0)
    # 13 tokens in blocks of 4: three full blocks.
    request = make_request("req-1", "", prompt_token_ids=tuple(range(13)))
    async with FakeCache() as cache, open_channel(cache.address) as channel:
        cache.keep(*chain_of(engine, request))
        fetcher = CacheFetcher(engine, CacheClient(channel), breaker, timeouts)
        yield Setting(engine, cache, fetcher, breaker, clock_s, request)


def chain_of(engine: FakeStepper, request: QueuedRequest) -> list[BlockPayload]:
    layout = engine.layout.text()
    root = chain_root(
        model_revision=engine.model_revision, layout=layout, adapter="", tenant=request.tenant
    )
    hashes = block_hashes(root, request.prompt_token_ids, engine.layout.block_size)
    blocks: list[BlockPayload] = []
    for parent, block_hash in zip([root, *hashes], hashes, strict=False):
        content = bytes([len(blocks)]) * BLOCK_BYTES
        blocks.append(
            BlockPayload(
                block_hash, parent, layout, request.tenant, content, zlib.crc32(content)
            )
        )  # fmt: skip
    return blocks


async def test_blocks_that_the_service_has_are_imported(setting: Setting) -> None:
    await setting.fetch()
    assert setting.engine.imported == chain_of(setting.engine, setting.request)


async def test_the_time_of_a_block_is_known_once_one_came(setting: Setting) -> None:
    assert setting.fetcher.block_s == 0
    await setting.fetch()
    assert setting.fetcher.block_s > 0


async def test_only_blocks_that_the_engine_lacks_are_asked_for(setting: Setting) -> None:
    chain = chain_of(setting.engine, setting.request)
    setting.engine.held_hashes = {chain[0].block_hash}
    await setting.fetch()
    assert setting.engine.imported == chain[1:]


async def test_an_engine_that_has_all_blocks_waits_for_nobody(setting: Setting) -> None:
    chain = chain_of(setting.engine, setting.request)
    setting.engine.held_hashes = {block.block_hash for block in chain}
    setting.cache.hang_in = "Lookup"
    async with asyncio.timeout(10):
        await setting.fetch()
    assert setting.imported() == 0


async def test_blocks_in_use_are_touched_although_nobody_fetches_them(setting: Setting) -> None:
    chain = chain_of(setting.engine, setting.request)
    setting.engine.held_hashes = {block.block_hash for block in chain}
    await setting.fetch()
    async with asyncio.timeout(5):
        while not setting.cache.num_lookups:
            await asyncio.sleep(0.001)
    assert setting.cache.num_gets == 0


async def test_blocks_of_another_model_are_not_found(setting: Setting) -> None:
    layout = setting.engine.layout
    setting.engine.names = BlockNames("other weights", layout.text(), layout.block_size)
    await setting.fetch()
    assert (setting.imported(), setting.cache.num_gets) == (0, 0)


async def test_at_least_one_prompt_token_is_left_to_compute(setting: Setting) -> None:
    setting.request = make_request("req-1", "", prompt_token_ids=tuple(range(12)))
    await setting.fetch()
    assert setting.imported() == 2


async def test_blocks_of_another_tenant_are_not_found(setting: Setting) -> None:
    setting.request = make_request(
        "req-1", "", prompt_token_ids=tuple(range(13)), tenant="tenant-b"
    )
    await setting.fetch()
    assert setting.imported() == 0
    assert setting.cache.num_gets == 0


@pytest.mark.parametrize("lie", [flipped, shortened, renamed, of_another_layout])
async def test_a_block_that_is_not_what_was_asked_for_is_not_used(
    setting: Setting, lie: Lie
) -> None:
    setting.cache.lie = lie
    await setting.fetch()
    assert setting.imported() == 0


async def test_blocks_before_a_damaged_one_are_used(setting: Setting) -> None:
    last = chain_of(setting.engine, setting.request)[-1].block_hash
    setting.cache.lie = lambda block: flipped(block) if block.block_hash == last else block
    await setting.fetch()
    assert setting.imported() == 2


async def test_of_many_blocks_those_before_a_damaged_one_are_used(setting: Setting) -> None:
    setting.request = make_request("req-2", "", prompt_token_ids=tuple(range(4 * 40 + 1)))
    chain = chain_of(setting.engine, setting.request)
    setting.cache.keep(*chain)
    await setting.fetch()
    assert setting.engine.imported == chain
    setting.engine.imported.clear()
    damaged = chain[CHECKED_AT_ONCE + 2].block_hash
    setting.cache.lie = lambda block: flipped(block) if block.block_hash == damaged else block
    await setting.fetch()
    assert setting.engine.imported == chain[: CHECKED_AT_ONCE + 2]


async def test_a_service_that_claims_more_than_it_sends_costs_nothing(setting: Setting) -> None:
    setting.cache.claims_all = True
    setting.cache.blocks.clear()
    await setting.fetch()
    assert setting.imported() == 0


@pytest.mark.parametrize("method", ["Lookup", "Get"])
async def test_a_service_that_hangs_is_left_at_the_deadline(setting: Setting, method: str) -> None:
    setting.cache.hang_in = method
    started = asyncio.get_running_loop().time()
    await setting.fetch()
    assert asyncio.get_running_loop().time() - started < 3
    # What came whole before it hung is as good as any.
    assert setting.imported() == (1 if method == "Get" else 0)


async def test_after_three_failures_the_service_is_left_alone_for_a_while(
    setting: Setting,
) -> None:
    setting.cache.lie = flipped
    for _ in range(5):
        await setting.fetch()
    assert setting.cache.num_lookups == 3
    setting.cache.lie = lambda block: block
    setting.clock_s[0] += 6
    await setting.fetch()
    assert setting.imported() == 3
    assert not setting.breaker.is_open


async def test_a_dead_service_costs_nothing_but_the_recompute() -> None:
    engine, breaker = FakeStepper(), CircuitBreaker()
    timeouts = FetchTimeouts(lookup_s=0.5, get_s=0.5, per_block_s=0.0)
    async with open_channel("127.0.0.1:1") as channel:
        fetcher = CacheFetcher(engine, CacheClient(channel), breaker, timeouts)
        for _ in range(4):
            await fetcher.fetch(make_request("req-1", ""), Context())
    assert breaker.is_open
    assert not engine.imported


async def test_a_bug_in_the_engines_answer_does_not_stop_the_request(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("no load")

    broken_load: Callable[[], None] = broken
    monkeypatch.setattr(setting.engine, "load", broken_load)
    await setting.fetch()
    assert setting.imported() == 0
