"""Blocks through shared memory: what a service says of it is checked, and none of it believed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import Context

from cache_service.arena import Arena
from services.core.blocks import BlockPayload
from services.core.shared_blocks import BlockHandle
from services.runtime import shared_memory
from services.runtime.rpc_client import open_channel
from services.runtime.shared_memory import CacheTransport, OwnedMemory
from services.wire.cache import lookup_response_to_pb
from services.wire.cache_shared import (
    SharedOutcome,
    add_handles,
    handles_to_pb,
    offer_from_pb,
    outcome_to_pb,
)
from tests.worker.cache.test_fetch import chain_of
from tests.worker.fake_cache import FakeCache
from tests.worker.fake_stepper import FakeStepper
from tests.worker.rig import make_request
from worker.cache.client import CacheClient
from worker.cache.fetch import CacheFetcher, FetchTimeouts
from worker.cache.shared_blocks import StagingArea
from worker.delivery.circuit_breaker import CircuitBreaker
from worker.engine.block_import import import_into_pool
from worker.engine.block_pool import BlockPool
from worker.engine.fake_engine import FakeModel, FakeRunner
from worker.engine.settings import EngineSettings

REQUEST = make_request("req-1", "", prompt_token_ids=tuple(range(13)))
Lie = Callable[[BlockHandle], BlockHandle]


class SharingCache(FakeCache):
    """Has its blocks in an arena; lies about where when told to."""

    def __init__(self, arena: Arena) -> None:
        super().__init__()
        self.arena = arena
        self.says = arena.name
        self.lie_about: Lie = lambda handle: handle
        self.can_read = True
        self.num_told: int | None = None
        self.num_shared_puts = 0

    async def Lookup(self, request: Any, context: Any) -> Any:
        num_blocks = (await super().Lookup(request, context)).num_blocks
        response = lookup_response_to_pb(num_blocks, 10_000, self.says)
        if request.memory_nonce == self.arena.name.nonce:
            found = request.block_hashes[request.num_held :][: self.num_told]
            add_handles(response, self.handles_of(found))
        return response

    async def Get(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request.memory_nonce != self.arena.name.nonce:
            async for response in super().Get(request, context):
                yield response
            return
        self.num_gets += 1
        yield handles_to_pb(self.handles_of(request.block_hashes))

    def handles_of(self, hashes: Iterable[bytes]) -> list[BlockHandle]:
        handles = [self.arena.handle_of(self.blocks[key]) for key in hashes if key in self.blocks]
        return [self.lie_about(handle) for handle in handles if handle]

    async def PutShared(self, request: Any, context: Any) -> Any:
        self.num_shared_puts += 1
        offer = offer_from_pb(request)
        return outcome_to_pb(SharedOutcome(self.can_read, num_stored=len(offer.blocks)))


@dataclass
class Setting:
    cache: SharingCache
    client: CacheClient
    engine: FakeStepper
    fetcher: CacheFetcher

    async def fetch(self) -> list[BlockPayload]:
        await self.fetcher.fetch(REQUEST, Context())
        return self.engine.imported


@asynccontextmanager
async def setting_of(
    tmp_path: Path, transport: CacheTransport = CacheTransport.AUTO
) -> AsyncIterator[Setting]:
    engine = FakeStepper()
    memory = OwnedMemory("arena", 1 << 20, tmp_path)
    arena = Arena(memory)
    cache = SharingCache(arena)
    async with cache, open_channel(cache.address) as channel:
        for block in chain_of(engine, REQUEST):
            kept = arena.keep(block.data)
            assert kept is not None
            cache.keep(replace(block, data=kept))
        client = CacheClient(channel, transport)
        timeouts = FetchTimeouts(lookup_s=2.0, get_s=2.0, per_block_s=0.0)
        yield Setting(
            cache, client, engine, CacheFetcher(engine, client, CircuitBreaker(), timeouts)
        )
        client.close()
    memory.close()


@pytest.fixture
async def setting(tmp_path, monkeypatch) -> AsyncIterator[Setting]:
    monkeypatch.setattr(shared_memory, "SHARED_DIR", tmp_path)
    async with setting_of(tmp_path) as made:
        yield made


async def test_blocks_are_read_where_they_lie(setting: Setting):
    setting.cache.lie = lambda block: pytest.fail("sent in a message")
    imported = await setting.fetch()
    assert [bytes(block.data) for block in imported] == [
        bytes(block.data) for block in chain_of(setting.engine, REQUEST)
    ]
    assert all(block.is_current() for block in imported)


@pytest.mark.parametrize(("num_told", "num_gets"), [(None, 0), (2, 1), (0, 1)])
async def test_whose_memory_is_open_is_told_where_blocks_lie_as_they_are_found(
    setting: Setting, num_told: int | None, num_gets: int
):
    """What the answer does not tell of is asked for, and nothing else."""
    first = list(await setting.fetch())
    setting.engine.imported.clear()
    setting.cache.num_gets, setting.cache.num_told = 0, num_told
    assert await setting.fetch() == first
    assert setting.cache.num_gets == num_gets


async def test_a_service_of_another_host_sends_them(setting: Setting):
    setting.cache.says = replace(setting.cache.says, nonce=b"x" * 16)
    assert len(await setting.fetch()) == 3


async def test_a_service_that_started_anew_is_read_anew(setting: Setting, tmp_path: Path):
    await setting.fetch()
    memory = OwnedMemory("arena", 1 << 20, tmp_path)
    arena = setting.cache.arena = Arena(memory)
    setting.cache.says = arena.name
    for block in chain_of(setting.engine, REQUEST):
        kept = arena.keep(block.data)
        assert kept is not None
        setting.cache.keep(replace(block, data=kept))
    setting.engine.imported.clear()
    assert len(await setting.fetch()) == 3
    memory.close()


LIES: dict[str, Lie] = {
    "beyond the file": lambda handle: replace(handle, offset_bytes=1 << 40),
    "an enormous length": lambda handle: replace(handle, size_bytes=(1 << 64) - 1),
    "a wrong length": lambda handle: replace(handle, size_bytes=7),
    "other bytes": lambda handle: replace(handle, offset_bytes=handle.generation_offset_bytes),
    "another block": lambda handle: replace(handle, block_hash=b"x" * 16),
    "a number beyond the file": lambda handle: replace(handle, generation_offset_bytes=1 << 40),
    "no number": lambda handle: replace(handle, generation=0),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_a_handle_that_lies_is_a_miss(setting: Setting, lie: Lie):
    setting.cache.lie_about = lie
    assert await setting.fetch() == []
    # Now as the answer of a lookup.
    assert await setting.fetch() == []


async def test_a_block_that_was_overwritten_while_it_was_copied_is_not_used(setting: Setting):
    setting.cache.lie_about = lambda handle: replace(handle, generation=handle.generation + 2)
    checked = await setting.fetch()
    assert len(checked) == 3
    runner = FakeRunner(FakeModel(vocab_size=1000), EngineSettings(num_blocks=8))
    pool = BlockPool(8)
    size_bytes = runner.block_bytes
    import_into_pool(
        pool,
        runner,
        [replace(block, layout=runner.layout.text(), data=bytes(size_bytes)) for block in checked],
    )
    assert (pool.num_reusable, pool.num_free) == (0, 8)


async def test_without_shared_memory_nothing_is_asked_where_nothing_else_is_allowed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(shared_memory, "SHARED_DIR", tmp_path)
    async with setting_of(tmp_path, CacheTransport.SHM) as setting:
        setting.cache.says = replace(setting.cache.says, nonce=b"x" * 16)
        assert await setting.fetch() == []
        assert setting.cache.num_gets == 0


async def test_messages_alone_are_used_where_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "SHARED_DIR", tmp_path)
    async with setting_of(tmp_path, CacheTransport.GRPC) as setting:
        sent = []
        setting.cache.lie = lambda block: sent.append(block) or block
        assert len(await setting.fetch()) == len(sent) == 3


async def test_blocks_are_offered_where_they_lie(setting: Setting):
    await setting.fetch()
    blocks = chain_of(setting.engine, REQUEST)
    assert await setting.client.put(blocks, timeout_s=5.0) == 3
    assert setting.cache.num_shared_puts == 1


async def test_a_service_that_cannot_read_them_is_sent_them(setting: Setting):
    await setting.fetch()
    setting.cache.can_read = False
    setting.cache.blocks.clear()
    blocks = chain_of(setting.engine, REQUEST)
    assert await setting.client.put(blocks, timeout_s=5.0) == 3
    assert list(setting.cache.blocks) == [block.block_hash for block in blocks]


def test_more_than_fits_is_staged_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "SHARED_DIR", tmp_path)
    staging = StagingArea(size_bytes=128)
    offers = list(staging.stage(chain_of(FakeStepper(), REQUEST)))
    assert [len(offer.blocks) for offer in offers] == [2, 1]
    staging.close()
    assert not list(tmp_path.iterdir())


def test_a_block_too_large_for_staging_is_not_staged(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "SHARED_DIR", tmp_path)
    staging = StagingArea(size_bytes=4)
    assert list(staging.stage(chain_of(FakeStepper(), REQUEST))) == []
    staging.close()
