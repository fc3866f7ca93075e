from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from opentelemetry.context import Context

from services.core.blocks import BlockPayload
from services.runtime.rpc_client import open_channel
from tests.worker.cache.test_fetch import chain_of
from tests.worker.conditions import until
from tests.worker.fake_cache import FakeCache
from tests.worker.fake_gateway import FakeGateway
from tests.worker.fake_stepper import FakeStepper
from tests.worker.rig import make_request, rig
from worker.cache.client import CacheClient
from worker.cache.fetch import CacheFetcher, FetchTimeouts
from worker.cache.offer import CacheOffers
from worker.delivery.circuit_breaker import CircuitBreaker
from worker.engine.fake_engine import FakeEngine
from worker.engine.full_block import BlockState, FullBlock


def full(*blocks: BlockPayload) -> list[FullBlock]:
    """As an engine hands them out."""
    return [
        FullBlock(replace(block, data=b"", crc32=0), len(block.data), partial(bytes, block.data))
        for block in blocks
    ]


REQUEST = make_request("req-1", "", prompt_token_ids=tuple(range(13)))
CHAIN = chain_of(FakeStepper(), REQUEST)


@asynccontextmanager
async def running_offers(
    address: str, *, max_bytes: int = 1000, timeout_s: float = 5.0
) -> AsyncIterator[CacheOffers]:
    async with open_channel(address) as channel:
        offers = CacheOffers(
            CacheClient(channel),
            CircuitBreaker(),
            max_bytes=max_bytes,
            lookup_timeout_s=timeout_s,
            put_timeout_s=timeout_s,
        )
        running = asyncio.create_task(offers.run())
        try:
            yield offers
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_offered_blocks_arrive_whole() -> None:
    async with FakeCache() as cache, running_offers(cache.address) as offers:
        offers.add(full(*CHAIN), Context())
        await offers.flush(5)
        assert list(cache.blocks.values()) == CHAIN


async def test_blocks_that_are_there_already_are_not_sent() -> None:
    async with FakeCache() as cache, running_offers(cache.address) as offers:
        cache.keep(*CHAIN)
        cache.hang_in = "Put"
        offers.add(full(*CHAIN), None)
        await offers.flush(5)
        assert offers.num_dropped == 0


async def test_a_block_that_is_there_already_costs_one_lookup_and_no_copy() -> None:
    def copy() -> bytes:
        raise AssertionError("nobody needs its bytes")

    async with FakeCache() as cache, running_offers(cache.address) as offers:
        cache.keep(*CHAIN)
        blocks = [FullBlock(block.stub, block.size_bytes, copy) for block in full(*CHAIN)]
        offers.add(blocks, None)
        await offers.flush(5)
        assert cache.num_lookups == 1
        assert {block.state for block in blocks} == {BlockState.SENT}


async def test_what_was_not_taken_may_be_offered_again() -> None:
    async with FakeCache() as cache, running_offers(cache.address, max_bytes=30) as offers:
        blocks = full(*CHAIN)
        offers.add(blocks, None)
        offers.add(refused := full(*CHAIN), None)
        assert {block.state for block in refused} == {BlockState.HERE}
        assert not offers.has_room(10)
        await offers.flush(5)
        assert {block.state for block in blocks} == {BlockState.SENT}
        assert offers.has_room(10)


async def test_what_is_lost_ends_what_is_sent_of_a_chain() -> None:
    async with FakeCache() as cache, running_offers(cache.address) as offers:
        blocks = full(*CHAIN)
        blocks[1].leave_pool(keep=False)
        offers.add(blocks, None)
        await offers.flush(5)
        assert list(cache.blocks.values()) == CHAIN[:1]


async def test_what_comes_to_a_full_queue_is_dropped_and_counted() -> None:
    async with FakeCache() as cache, running_offers(cache.address, max_bytes=30) as offers:
        cache.hang_in = "Put"
        offers.add(full(*CHAIN), None)
        offers.add(full(*CHAIN[:1]), None)
        assert offers.num_dropped == 1


async def test_a_dead_service_is_left_alone_after_three_failures() -> None:
    async with running_offers("127.0.0.1:1", timeout_s=0.1) as offers:
        for _ in range(5):
            offers.add(full(*CHAIN), None)
        await offers.flush(5)
        offers.add(full(*CHAIN), None)
        assert offers.num_dropped == 6 * len(CHAIN)


async def test_a_service_that_hangs_is_left_at_the_deadline() -> None:
    async with FakeCache() as cache, running_offers(cache.address, timeout_s=0.1) as offers:
        cache.hang_in = "Put"
        offers.add(full(*CHAIN), None)
        await offers.flush(5)
        assert offers.num_dropped == len(CHAIN)


async def test_blocks_of_one_worker_are_reused_by_another() -> None:
    prompt = tuple(range(100, 200))
    async with (
        FakeCache() as cache,
        FakeGateway() as gateway,
        open_channel(cache.address) as channel,
        running_offers(cache.address) as offers,
    ):
        client, timeouts = CacheClient(channel), FetchTimeouts(5, 5, 0)
        first = FakeEngine()
        async with rig(first, offers=offers) as worker:
            await worker.submit(make_request("req-1", gateway.address, prompt_token_ids=prompt))
            await until(lambda: gateway.finish_reason("req-1") is not None)
            await offers.flush(5)
        second = FakeEngine()
        fetcher = CacheFetcher(second, client, CircuitBreaker(), timeouts)
        async with rig(second, fetcher=fetcher) as worker:
            await worker.submit(make_request("req-2", gateway.address, prompt_token_ids=prompt))
            await until(lambda: gateway.finish_reason("req-2") is not None)
        assert gateway.deltas("req-1")[0].cached_tokens == 0
        assert gateway.deltas("req-2")[0].cached_tokens == 96
        assert gateway.token_ids("req-1") == gateway.token_ids("req-2")
