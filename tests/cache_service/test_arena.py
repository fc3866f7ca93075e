from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cache_service.arena import Arena, open_arena
from cache_service.block_store import BlockStore, StoreLimits
from cache_service.policies.simple import LruPolicy
from cache_service.store_rules import PutOutcome
from cache_service.tiers import TieredStore
from services.core.shared_blocks import BlockHandle
from services.runtime import shared_memory
from services.runtime.shared_memory import CacheTransport, OwnedMemory, ReadMemory

SIZE = 4000
PAGE = 4096


class Shared:
    """An arena, and what a reader sees of it."""

    def __init__(self, arena: Arena, reader: ReadMemory) -> None:
        self.arena = arena
        self._reader = reader

    def bytes_at(self, handle: BlockHandle) -> bytes:
        return bytes(self._reader.view[handle.offset_bytes :][: handle.size_bytes])

    def is_current(self, handle: BlockHandle) -> bool:
        number = bytes(self._reader.view[handle.generation_offset_bytes :][:8])
        return int.from_bytes(number, "little") == handle.generation


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    memory = OwnedMemory("arena", 4 * PAGE, tmp_path)
    yield Shared(Arena(memory), ReadMemory(memory.name, tmp_path))
    memory.close()


def keep(shared: Shared, block):
    kept = shared.arena.keep(block.data)
    assert kept is not None
    return replace(block, data=kept)


def handle_of(shared: Shared, block) -> BlockHandle:
    handle = shared.arena.handle_of(block)
    assert handle is not None
    return handle


def test_a_reader_finds_a_block_by_its_handle(shared, make_block):
    block = make_block(1, size_bytes=SIZE)
    kept = keep(shared, block)
    handle = handle_of(shared, kept)
    assert shared.bytes_at(handle) == block.data == bytes(kept.data)
    assert shared.is_current(handle)


def test_a_block_elsewhere_has_no_handle(shared, make_block):
    assert shared.arena.handle_of(make_block(1)) is None
    assert shared.arena.handle_of(replace(make_block(1), data=memoryview(b"bytes"))) is None


def test_bytes_that_nobody_holds_are_current_no_more(shared, make_block):
    kept = keep(shared, make_block(1, size_bytes=SIZE))
    handle = handle_of(shared, kept)
    del kept
    assert not shared.is_current(handle)


def test_a_part_that_is_still_held_keeps_all_of_it(shared, make_block):
    kept = keep(shared, make_block(1, size_bytes=SIZE))
    handle, part = handle_of(shared, kept), kept.data[10:20]
    del kept
    others = [keep(shared, make_block(number, size_bytes=SIZE)) for number in (2, 3, 4)]
    assert shared.is_current(handle)
    assert shared.arena.keep(b"x" * SIZE) is None
    del part
    assert not shared.is_current(handle)
    assert shared.arena.keep(b"x" * SIZE) is not None
    assert len(others) == 3


def test_a_handle_of_a_place_that_has_another_block_now_is_found_out(shared, make_block):
    kept = keep(shared, make_block(1, size_bytes=SIZE))
    stale = handle_of(shared, kept)
    del kept
    other = keep(shared, make_block(2, size_bytes=SIZE))
    assert handle_of(shared, other).offset_bytes == stale.offset_bytes
    assert not shared.is_current(stale)


def test_an_evicted_block_that_is_still_being_written_to_disk_keeps_its_bytes(
    shared, make_block, fake_clock
):
    written = []
    memory = BlockStore(
        StoreLimits(2 * SIZE, lease_s=5.0),
        LruPolicy,
        fake_clock,
        lambda block, reason: written.append(block),
    )
    store = TieredStore(memory, arena=shared.arena)
    for number in (1, 2, 3):
        assert store.put(make_block(number, size_bytes=SIZE)) is PutOutcome.STORED
    (evicted,) = written
    assert shared.is_current(handle_of(shared, evicted))
    assert bytes(evicted.data) == make_block(1, size_bytes=SIZE).data


def test_a_leased_block_is_not_evicted_under_its_reader(shared, make_block, fake_clock):
    store = TieredStore(
        BlockStore(StoreLimits(2 * SIZE, lease_s=5.0), LruPolicy, fake_clock), arena=shared.arena
    )
    first = make_block(1, size_bytes=SIZE)
    store.put(first)
    assert store.lookup([first.block_hash], "layout", "tenant") == 1
    handle = store.handle_of(first.block_hash, "layout")
    assert handle is not None
    for number in (2, 3, 4):
        store.put(make_block(number, size_bytes=SIZE))
    assert shared.is_current(handle)
    fake_clock.now_s += 6
    store.put(make_block(5, size_bytes=SIZE))
    store.put(make_block(6, size_bytes=SIZE))
    assert not shared.is_current(handle)


def test_what_the_arena_has_no_room_for_is_kept_privately(tmp_path, make_block, fake_clock):
    memory = OwnedMemory("arena", PAGE, tmp_path)
    store = TieredStore(
        BlockStore(StoreLimits(1 << 20), LruPolicy, fake_clock), arena=Arena(memory)
    )
    block = make_block(1, size_bytes=2 * PAGE)
    assert store.put(block) is PutOutcome.STORED
    assert store.handle_of(block.block_hash, "layout") is None
    memory.close()


@pytest.mark.parametrize("transport", CacheTransport)
def test_a_directory_without_room_gives_no_arena(tmp_path, monkeypatch, transport):
    monkeypatch.setattr(shared_memory, "SHARED_DIR", tmp_path)
    if transport is CacheTransport.SHM:
        with pytest.raises(OSError, match="no room"):
            open_arena(1 << 60, transport)
    else:
        assert open_arena(1 << 60, transport) is None
