from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.core.blocks import BlockPayload
from services.core.errors import DependencyLost
from services.wire.cache import BlockQuery
from tests.worker.cache.test_fetch import chain_of
from tests.worker.fake_cache import FakeCache
from tests.worker.fake_stepper import FakeStepper
from tests.worker.rig import make_request
from worker.cache.client import Found
from worker.cache.shards import CacheShards, choose_shard, find_shards

HEADS = [random.Random(n).randbytes(16) for n in range(3000)]


@pytest.mark.parametrize("num_shards", [1, 2, 3, 5, 8])
def test_a_shard_that_comes_takes_its_share_and_no_other_chain_moves(num_shards):
    before = [f"cache-{n}" for n in range(num_shards)]
    after = [*before, "new"]
    moved = [head for head in HEADS if choose_shard(head, before) != choose_shard(head, after)]
    assert all(choose_shard(head, after) == "new" for head in moved)
    share = len(HEADS) / (num_shards + 1)
    assert 0.85 * share < len(moved) < 1.15 * share


def test_chains_are_spread_evenly_in_whatever_order_shards_are_named():
    names = [f"cache-{n}" for n in range(4)]
    count = Counter(choose_shard(head, names) for head in HEADS)
    assert all(0.85 < 4 * number / len(HEADS) < 1.15 for number in count.values())
    assert all(
        choose_shard(head, names) == choose_shard(head, reversed(names)) for head in HEADS[:100]
    )


async def test_shards_are_found_by_list_file_and_name(tmp_path: Path):
    path = tmp_path / "shards.json"
    path.write_text(json.dumps({"cache": "127.0.0.1:1"}))
    assert await find_shards(f"file://{path}") == {"cache": "127.0.0.1:1"}
    assert set(await find_shards("a:1, b:2")) == {"a:1", "b:2"}
    assert set(await find_shards("dns:///localhost:50055")) == {"127.0.0.1:50055"}


def chain(number: int) -> list[BlockPayload]:
    tokens = tuple(range(number, number + 13))
    blocks = chain_of(FakeStepper(), make_request("req", "", prompt_token_ids=tokens))
    return [replace(block, head=blocks[0].block_hash) for block in blocks]


def query_of(blocks: list[BlockPayload]) -> BlockQuery:
    return BlockQuery(tuple(block.block_hash for block in blocks), blocks[0].layout)


@asynccontextmanager
async def shards_of(path: Path, **addresses: str) -> AsyncIterator[CacheShards]:
    path.write_text(json.dumps(addresses))  # noqa: ASYNC240
    shards = CacheShards(f"file://{path}")
    await shards.refresh()
    try:
        yield shards
    finally:
        await shards.close()


async def test_a_chain_lives_together_even_if_its_end_is_offered_alone(tmp_path: Path):
    async with FakeCache() as one, FakeCache() as two:
        addresses = {"one": one.address, "two": two.address}
        async with shards_of(tmp_path / "shards.json", **addresses) as shards:
            chains = [chain(number) for number in range(12)]
            for blocks in chains:
                await shards.put(blocks[:1], timeout_s=5)
                await shards.put(blocks[1:], timeout_s=5)
            for blocks in chains:
                found = await shards.lookup(query_of(blocks), timeout_s=5)
                assert found.num_blocks == len(blocks)
                assert len({block.block_hash in one.blocks for block in blocks}) == 1
            assert one.blocks
            assert two.blocks


async def test_a_lost_shard_is_a_miss_and_the_others_go_on(tmp_path: Path):
    async with FakeCache() as one:
        addresses = {"one": one.address, "lost": "127.0.0.1:1"}
        async with shards_of(tmp_path / "shards.json", **addresses) as shards:
            found: Counter[str] = Counter()
            for number in range(20):
                blocks = chain(number)
                await shards.put(blocks, timeout_s=1)
                name = choose_shard(blocks[0].block_hash, addresses)
                found[name] += (await shards.lookup(query_of(blocks), timeout_s=1)).num_blocks
            assert found["one"] == len(one.blocks) > 0
            assert found["lost"] == 0


async def test_the_only_shard_that_is_lost_is_an_error_to_its_caller(tmp_path: Path):
    async with shards_of(tmp_path / "shards.json", one="127.0.0.1:1") as shards:
        with pytest.raises(DependencyLost):
            await shards.lookup(query_of(chain(1)), timeout_s=1)


async def test_shards_that_come_and_go_are_followed(tmp_path: Path):
    path = tmp_path / "shards.json"
    async with shards_of(path) as shards:
        assert await shards.lookup(query_of(chain(1)), timeout_s=1) == Found()
        path.write_text('{"one": "127.0.0.1:1", "two": "127.0.0.1:2"}')
        await shards.refresh()
        assert shards.names == ["one", "two"]
        path.write_text('{"two": ')
        await shards.refresh()
        assert shards.names == ["one", "two"]
        path.write_text('{"two": "127.0.0.1:3"}')
        await shards.refresh()
        assert shards.names == ["two"]
