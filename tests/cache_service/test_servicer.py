from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterable

import pytest
from tokenmill.v1.cache_pb2_grpc import CacheServiceStub, add_CacheServiceServicer_to_server

from cache_service.block_store import BlockStore, StoreLimits
from cache_service.policies.choice import PolicyChoice, PolicyName, PolicySettings
from cache_service.policies.simple import LruPolicy
from cache_service.servicer import CacheServicer, ServiceLimits
from cache_service.tiers import TieredStore
from services.core.blocks import BlockPayload
from services.core.errors import DeadlineExceeded, InvalidRequest, Overloaded, TokenmillError
from services.runtime.rpc_client import open_channel, peer_errors
from services.runtime.rpc_server import RpcServer
from services.wire.cache import (
    CHUNK_BYTES,
    BlockAssembler,
    BlockQuery,
    block_to_put_requests,
    get_request_to_pb,
    lookup_request_to_pb,
    set_policy_request_to_pb,
    stats_from_pb,
    stats_request_to_pb,
)

LIMITS = ServiceLimits(
    max_hashes=8, max_block_bytes=4 << 20, max_concurrent_puts=2, put_idle_timeout_s=5.0
)
TIMEOUT_S = 10.0


class Client:
    """Calls the service as a worker would, with core values."""

    def __init__(self, stub: CacheServiceStub) -> None:
        self.stub = stub

    async def put(self, *blocks: BlockPayload) -> tuple[int, int, int]:
        return await self.put_messages(
            message for block in blocks for message in block_to_put_requests(block)
        )

    async def put_messages(self, messages: Iterable) -> tuple[int, int, int]:
        with peer_errors("cache"):
            reply = await self.stub.Put(iter(list(messages)), timeout=TIMEOUT_S)
        return reply.num_stored, reply.num_present, reply.num_rejected

    async def lookup(self, *hashes: bytes, layout: str = "layout") -> tuple[int, int]:
        with peer_errors("cache"):
            reply = await self.stub.Lookup(
                lookup_request_to_pb(BlockQuery(hashes, layout, "tenant")), timeout=TIMEOUT_S
            )
        return reply.num_blocks, reply.lease_ms

    async def get(self, *hashes: bytes, layout: str = "layout") -> list[BlockPayload]:
        assembler = BlockAssembler()
        blocks = []
        with peer_errors("cache"):
            async for reply in self.stub.Get(get_request_to_pb(hashes, layout), timeout=TIMEOUT_S):
                block = assembler.feed(reply.chunk)
                if block is not None:
                    blocks.append(block)
        return blocks

    async def stats(self):
        return stats_from_pb(await self.stub.Stats(stats_request_to_pb(), timeout=TIMEOUT_S))


@pytest.fixture
def store(fake_clock) -> BlockStore:
    return BlockStore(StoreLimits(8 << 20), LruPolicy, fake_clock)


@pytest.fixture
def limits() -> ServiceLimits:
    return LIMITS


@pytest.fixture
async def client(store, limits) -> AsyncIterator[Client]:
    server = RpcServer()
    servicer = CacheServicer(
        TieredStore(store), limits, PolicyChoice(PolicyName.LRU, PolicySettings())
    )
    server.add(add_CacheServiceServicer_to_server, servicer, "tokenmill.v1.CacheService")
    port = await server.start("127.0.0.1", 0)
    channel = open_channel(f"127.0.0.1:{port}")
    yield Client(CacheServiceStub(channel))
    await channel.close()
    await server.stop(0)


async def test_chain_comes_back_as_it_was_put(client, make_block):
    chain = [make_block(1), make_block(2, parent=1), make_block(3, parent=2)]
    assert await client.put(*chain) == (3, 0, 0)
    hashes = [block.block_hash for block in chain]
    assert await client.lookup(*hashes) == (3, 5000)
    assert await client.get(*hashes) == chain


async def test_block_larger_than_a_message_comes_back_whole(client, make_block):
    block = make_block(1, size_bytes=3 * CHUNK_BYTES + 17)
    assert await client.put(block) == (1, 0, 0)
    assert await client.get(block.block_hash) == [block]


async def test_get_ends_at_the_first_missing_block(client, make_block):
    first, third = make_block(1), make_block(3)
    await client.put(first, third)
    missing = make_block(2).block_hash
    assert await client.get(first.block_hash, missing, third.block_hash) == [first]


async def test_another_layout_is_a_miss(client, make_block):
    block = make_block(1)
    await client.put(block)
    assert (await client.lookup(block.block_hash, layout="other"))[0] == 0
    assert await client.get(block.block_hash, layout="other") == []


async def test_block_that_is_here_is_skipped(client, make_block):
    await client.put(make_block(1))
    assert await client.put(make_block(1), make_block(2)) == (1, 1, 0)


@pytest.mark.parametrize("size_bytes", [100, (4 << 20) - 1, 4 << 20])
async def test_block_with_a_flipped_bit_is_not_kept(client, make_block, size_bytes):
    good = make_block(1, size_bytes=size_bytes)
    flipped = bytes([good.data[0] ^ 1]) + good.data[1:]
    assert await client.put(dataclasses.replace(good, data=flipped)) == (0, 0, 1)
    assert (await client.lookup(good.block_hash))[0] == 0


async def test_blocks_before_a_damaged_one_and_after_it_are_kept(client, make_block):
    bad = dataclasses.replace(make_block(2), crc32=0)
    assert await client.put(make_block(1), bad, make_block(3)) == (2, 0, 1)


@pytest.mark.parametrize("length", [0, 15, 17])
async def test_hash_of_another_length_is_refused_by_field(client, length):
    with pytest.raises(InvalidRequest, match="16") as caught:
        await client.lookup(bytes(length))
    assert caught.value.field == "block_hashes"
    with pytest.raises(InvalidRequest) as caught:
        await client.get(bytes(length))
    assert caught.value.field == "block_hashes"


@pytest.mark.parametrize("field", ["block_hash", "parent_hash"])
async def test_put_of_a_hash_of_another_length_is_refused_by_field(client, make_block, field):
    with pytest.raises(InvalidRequest) as caught:
        await client.put(dataclasses.replace(make_block(1), **{field: b"short"}))
    assert caught.value.field == field


async def test_too_many_hashes_are_refused_with_the_limit(client, make_block):
    with pytest.raises(InvalidRequest, match="9 hashes; allowed: at most 8") as caught:
        await client.lookup(*(make_block(n).block_hash for n in range(9)))
    assert caught.value.field == "block_hashes"


async def test_block_over_the_size_limit_is_refused_with_the_limit(client, make_block):
    with pytest.raises(InvalidRequest, match=str(4 << 20)) as caught:
        await client.put(make_block(1, size_bytes=(4 << 20) + 1))
    assert caught.value.field == "size_bytes"


@pytest.mark.parametrize("field", ["layout", "tenant"])
async def test_overlong_text_is_refused_by_field(client, make_block, field):
    with pytest.raises(InvalidRequest) as caught:
        await client.put(make_block(1, **{field: "x" * 257}))
    assert caught.value.field == field


async def test_blocks_before_an_invalid_one_stay(client, make_block):
    bad = dataclasses.replace(make_block(2), block_hash=b"short")
    with pytest.raises(InvalidRequest):
        await client.put(make_block(1), bad)
    assert (await client.lookup(make_block(1).block_hash))[0] == 1


async def test_put_that_ends_inside_a_block_is_refused(client, make_block):
    pieces = list(block_to_put_requests(make_block(1, size_bytes=2 * CHUNK_BYTES)))
    with pytest.raises(InvalidRequest, match="inside a block"):
        await client.put_messages(pieces[:1])


async def test_pieces_out_of_order_are_refused(client, make_block):
    pieces = list(block_to_put_requests(make_block(1, size_bytes=2 * CHUNK_BYTES)))
    with pytest.raises(InvalidRequest):
        await client.put_messages(reversed(pieces))


async def test_no_room_is_an_answer_and_not_an_error(client, make_block):
    blocks = [make_block(n, size_bytes=4 << 20) for n in (1, 2)]
    await client.put(*blocks)
    await client.lookup(*(block.block_hash for block in blocks))
    assert await client.put(make_block(3)) == (0, 0, 1)


async def test_stats_tell_what_happened(client, make_block):
    await client.put(*(make_block(n, size_bytes=4 << 20) for n in (1, 2, 3)))
    await client.lookup(make_block(3).block_hash, make_block(9).block_hash)
    stats = await client.stats()
    assert (stats.num_blocks, stats.size_bytes, stats.capacity_bytes) == (2, 8 << 20, 8 << 20)
    assert (stats.num_hits, stats.num_misses) == (1, 1)
    assert (stats.num_puts, stats.num_evictions) == (3, 1)


@pytest.mark.parametrize("limits", [dataclasses.replace(LIMITS, max_concurrent_puts=6)])
async def test_concurrent_puts_and_gets_see_whole_blocks(client, make_block, limits):
    blocks = [make_block(n, size_bytes=CHUNK_BYTES + n) for n in range(6)]

    async def read(block: BlockPayload) -> None:
        assert await client.get(block.block_hash) in ([block], [])

    await asyncio.gather(*(read(block) for block in blocks), *(client.put(b) for b in blocks))
    assert await client.get(*(block.block_hash for block in blocks)) == blocks


async def test_put_beyond_the_limit_of_streams_is_told_to_come_back(client, make_block):
    release = asyncio.Event()
    begun = asyncio.Semaphore(0)

    async def waiting() -> AsyncIterator:
        for message in block_to_put_requests(make_block(1)):
            yield message
        begun.release()
        await release.wait()

    running = [asyncio.ensure_future(_as_task(client.stub.Put(waiting()))) for _ in range(2)]
    for _ in running:
        await begun.acquire()
    with pytest.raises(Overloaded) as caught:
        await _until_refused(client, make_block(2))
    assert caught.value.retry_after_s == 1.0
    release.set()
    await asyncio.gather(*running)
    assert await client.put(make_block(2)) in ((1, 0, 0), (0, 1, 0))


async def _as_task(call):
    return await call


async def _until_refused(client: Client, block: BlockPayload) -> None:
    # The two streams are begun by the client; the server may see them a moment later.
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            await client.put(block)


@pytest.mark.parametrize("limits", [dataclasses.replace(LIMITS, put_idle_timeout_s=0.05)])
async def test_silent_put_loses_its_place(client, make_block, limits):
    release = asyncio.Event()

    async def silent() -> AsyncIterator:
        for message in block_to_put_requests(make_block(1)):
            yield message
        await release.wait()

    with pytest.raises(TokenmillError) as caught, peer_errors("cache"):
        await client.stub.Put(silent(), timeout=TIMEOUT_S)
    assert isinstance(caught.value, DeadlineExceeded)
    assert "silent" in caught.value.message
    assert (await client.lookup(make_block(1).block_hash))[0] == 1


async def test_policy_is_changed_while_blocks_stay(client, make_block):
    await client.put(make_block(1))
    with peer_errors("cache"):
        reply = await client.stub.SetPolicy(set_policy_request_to_pb("hybrid"), timeout=TIMEOUT_S)
    assert reply.previous == "lru"
    stats = await client.stats()
    assert (stats.policy, stats.num_blocks) == ("hybrid", 1)


async def test_unknown_policy_is_refused_with_those_there_are(client):
    with pytest.raises(InvalidRequest, match="lru, lfu, ttl, hybrid"), peer_errors("cache"):
        await client.stub.SetPolicy(set_policy_request_to_pb("fifo"), timeout=TIMEOUT_S)
