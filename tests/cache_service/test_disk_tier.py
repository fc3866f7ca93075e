from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cache_service.arena import Arena
from cache_service.block_store import BlockStore
from cache_service.disk_tier import DiskTier, open_disk
from cache_service.policies.choice import PolicyName
from cache_service.policies.simple import LruPolicy
from cache_service.store_rules import StoreLimits
from cache_service.tiers import TieredStore
from services.core.blocks import BlockPayload
from services.runtime.shared_memory import OwnedMemory

SIZE_BYTES = 1 << 20
BLOCK_BYTES = 100_000
SLOT_BYTES = 25 * 4096
"""What such a block takes in an arena."""
LIMITS = StoreLimits(10**6, lease_s=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blocks"


@asynccontextmanager
async def running(path: Path, clock, *, size_bytes: int = SIZE_BYTES) -> AsyncIterator[DiskTier]:
    disk = DiskTier(
        path, size_bytes, LIMITS, (PolicyName.LRU, LruPolicy), clock, max_queued_bytes=10**6
    )
    task = asyncio.create_task(disk.run())
    try:
        yield disk
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        disk.close()


async def write(disk: DiskTier, *blocks) -> None:
    for block in blocks:
        disk.offer(block)
        await disk.flush(5)


async def test_blocks_are_read_as_they_were_written(path, fake_clock, make_block):
    block = make_block(1, size_bytes=BLOCK_BYTES)
    async with running(path, fake_clock) as disk:
        await write(disk, block)
        assert await disk.load([block.block_hash], "layout") == [block]
        assert not await disk.load([block.block_hash], "another")


async def test_blocks_are_there_after_a_crash(path, fake_clock, make_block):
    blocks = [make_block(n, parent=n - 1, size_bytes=BLOCK_BYTES) for n in range(1, 5)]
    async with running(path, fake_clock) as disk:
        await write(disk, *blocks)
    async with running(path, fake_clock) as disk:
        assert await disk.load([block.block_hash for block in blocks], "layout") == blocks


@pytest.mark.parametrize("seed", range(5))
async def test_a_file_damaged_anywhere_gives_right_blocks_or_none(
    path, fake_clock, make_block, seed
):
    blocks = [make_block(n, size_bytes=BLOCK_BYTES) for n in range(1, 7)]
    async with running(path, fake_clock) as disk:
        await write(disk, *blocks)
    rng = random.Random(seed)
    content = bytearray(path.read_bytes())
    for _ in range(40):
        # Half of them among the records.
        place = rng.randrange(4096, rng.choice((4096 + 6 * 1024, len(content))))
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    async with running(path, fake_clock) as disk:
        for block in blocks:
            assert await disk.load([block.block_hash], "layout") in ([block], [])
        await write(disk, *blocks)
        assert await disk.load([block.block_hash for block in blocks], "layout") == blocks


async def test_a_torn_block_is_a_miss_and_can_be_written_again(path, fake_clock, make_block):
    block = make_block(1, size_bytes=BLOCK_BYTES)
    async with running(path, fake_clock) as disk:
        await write(disk, block)
        content = path.read_bytes()
        path.write_bytes(content.replace(bytes(block.data), bytes(BLOCK_BYTES)))
        assert not await disk.load([block.block_hash], "layout")
        assert disk.num_torn == 1
        assert not disk.holds(block.block_hash, "layout")
        await write(disk, block)
        assert await disk.load([block.block_hash], "layout") == [block]


async def test_the_coldest_blocks_make_room_and_do_not_come_back(path, fake_clock, make_block):
    blocks = [make_block(n, size_bytes=BLOCK_BYTES) for n in range(1, 20)]
    async with running(path, fake_clock) as disk:
        for block in blocks:
            fake_clock.now_s += 1
            await write(disk, block)
        held = [block for block in blocks if disk.holds(block.block_hash, "layout")]
        assert held == blocks[-len(held) :]
        assert 5 < len(held) < 11
        assert path.stat().st_size == SIZE_BYTES
    async with running(path, fake_clock) as disk:
        assert [block for block in blocks if disk.holds(block.block_hash, "layout")] == held
        assert await disk.load([block.block_hash for block in held], "layout") == held


async def test_a_file_of_another_size_is_begun_anew(path, fake_clock, make_block):
    async with running(path, fake_clock) as disk:
        await write(disk, make_block(1))
    async with running(path, fake_clock, size_bytes=2 * SIZE_BYTES) as disk:
        assert disk.books.num_blocks == 0


async def test_what_is_no_file_or_has_no_room_is_not_opened(path, fake_clock):
    policy = (PolicyName.LRU, LruPolicy)

    def opened(size_bytes: int) -> DiskTier | None:
        return open_disk(path, size_bytes, LIMITS, policy, fake_clock, max_queued_bytes=1)

    assert opened(1 << 60) is None
    path.unlink()
    path.mkdir()
    assert opened(SIZE_BYTES) is None


async def test_shards_that_were_given_one_path_take_a_file_each(path, fake_clock, make_block):
    policy = (PolicyName.LRU, LruPolicy)

    def opened() -> DiskTier:
        disk = open_disk(path, SIZE_BYTES, LIMITS, policy, fake_clock, max_queued_bytes=10**6)
        assert disk is not None
        return disk

    first, second = opened(), opened()
    assert sorted(file.name for file in path.parent.iterdir()) == ["blocks", "blocks-2"]
    for disk, number in ((first, 1), (second, 2)):
        task = asyncio.create_task(disk.run())
        disk.offer(make_block(number))
        await disk.flush(5)
        task.cancel()
        disk.close()
    again = opened()
    assert await again.load([make_block(1).block_hash], "layout") == [make_block(1)]
    assert not await again.load([make_block(2).block_hash], "layout")
    again.close()


async def test_an_error_of_the_disk_turns_the_tier_off_and_harms_nobody(
    path, fake_clock, make_block, monkeypatch
):
    first, second = make_block(1), make_block(2)
    async with running(path, fake_clock) as disk:
        store = TieredStore(BlockStore(LIMITS, LruPolicy, fake_clock), disk)
        store.put(first)
        await disk.flush(5)

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(disk._file, "write", fail)
        store.put(second)
        await disk.flush(5)
        assert disk.is_off
        assert not disk.holds(first.block_hash, "layout")
        assert await store.load([second.block_hash], "layout") == [second]
        store.put(make_block(3))


async def test_blocks_that_memory_lost_come_up_again_with_their_chain(path, fake_clock, make_block):
    blocks = [make_block(n, parent=n - 1, size_bytes=BLOCK_BYTES) for n in range(1, 5)]
    hashes = [block.block_hash for block in blocks]
    async with running(path, fake_clock) as disk:
        store = TieredStore(BlockStore(LIMITS, LruPolicy, fake_clock), disk)
        for block in blocks:
            store.put(block)
        await disk.flush(5)
        # A new memory, with the second block alone.
        store = TieredStore(BlockStore(LIMITS, LruPolicy, fake_clock), disk)
        store.put(blocks[1])
        assert store.lease([*hashes, b"x" * 16], "layout") == 4
        assert store.lookup([*hashes, b"x" * 16], "layout", "tenant") == 4
        assert (store.memory.counters.num_hits, disk.books.counters.num_hits) == (1, 3)
        assert store.memory.counters.num_misses == 1
        found: list[BlockPayload] = []
        while len(found) < len(hashes):
            found += await store.load(hashes[len(found) :], "layout")
        assert found == blocks
        assert store.memory.num_blocks == 4


async def test_blocks_are_read_to_where_others_can_read_them(
    path, fake_clock, make_block, tmp_path
):
    blocks = [make_block(n, parent=n - 1, size_bytes=BLOCK_BYTES) for n in range(1, 5)]
    hashes = [block.block_hash for block in blocks]
    async with running(path, fake_clock) as disk:
        for block in blocks:
            disk.offer(block)
        await disk.flush(5)
        memory = OwnedMemory("arena", 3 * SLOT_BYTES, tmp_path)
        arena = Arena(memory)
        store = TieredStore(BlockStore(LIMITS, LruPolicy, fake_clock), disk, arena)
        assert await store.load(hashes, "layout") == blocks
        # The last found no room there.
        handles = list(store.leading_handles(hashes, "layout"))
        assert [handle.block_hash for handle in handles] == hashes[:3]
        for handle, block in zip(handles, blocks, strict=False):
            end = handle.offset_bytes + handle.size_bytes
            assert bytes(memory.memory[handle.offset_bytes : end]) == block.data
        store.arena = None
        arena.close()


async def test_a_place_for_a_torn_block_is_given_back(path, fake_clock, make_block, tmp_path):
    block = make_block(1, size_bytes=BLOCK_BYTES)
    async with running(path, fake_clock) as disk:
        disk.offer(block)
        await disk.flush(5)
        content = path.read_bytes()
        path.write_bytes(content.replace(bytes(block.data), b"?" * BLOCK_BYTES))
        arena = Arena(OwnedMemory("arena", SLOT_BYTES, tmp_path))
        store = TieredStore(BlockStore(LIMITS, LruPolicy, fake_clock), disk, arena)
        assert await store.load([block.block_hash], "layout") == []
        assert disk.num_torn == 1
        # The thread that read it lets go of it a moment later.
        async with asyncio.timeout(5):
            while arena.keep(block.data) is None:
                await asyncio.sleep(0.001)
        arena.close()
