from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.blocks import block_hashes
from worker.engine.block_pool import BlockPool, NoRoom, PrefixHit

ROOT = b"root"


def _hashes(num_blocks: int, salt: int = 0) -> list[bytes]:
    return block_hashes(ROOT + bytes([salt]), list(range(num_blocks)), 1)


def _fill(pool: BlockPool, hashes: list[bytes]) -> tuple[int, ...]:
    block_ids = pool.allocate(PrefixHit(), len(hashes))
    assert not isinstance(block_ids, NoRoom)
    for block_id, block_hash in zip(block_ids, hashes, strict=True):
        pool.remember(block_id, block_hash)
    return block_ids


def test_more_than_is_free_is_refused_and_changes_nothing():
    pool = BlockPool(2)
    assert pool.allocate(PrefixHit(), 3) == NoRoom(num_wanted=3, num_free=2)
    pool.check_integrity([])


def test_a_released_block_is_found_until_it_is_allocated_anew():
    pool = BlockPool(2)
    hashes = _hashes(2)
    block_ids = _fill(pool, hashes)
    pool.release(block_ids)
    assert pool.match(hashes).block_ids == block_ids
    pool.allocate(PrefixHit(), 2)
    assert pool.match(hashes).block_ids == ()


def test_the_tail_of_a_prefix_is_reused_before_its_head():
    pool = BlockPool(3)
    hashes = _hashes(3)
    block_ids = _fill(pool, hashes)
    pool.release(block_ids)
    pool.allocate(PrefixHit(), 1)
    assert pool.match(hashes).block_ids == block_ids[:2]


def test_a_block_without_a_hash_is_reused_before_one_with_a_hash():
    pool = BlockPool(2)
    hashes = _hashes(1)
    (found,) = _fill(pool, hashes)
    (plain,) = pool.allocate(PrefixHit(), 1)
    pool.release([found])
    pool.release([plain])
    assert pool.allocate(PrefixHit(), 1) == (plain,)


def test_a_hit_is_not_handed_out_as_a_fresh_block():
    pool = BlockPool(2)
    hashes = _hashes(1)
    block_ids = _fill(pool, hashes)
    pool.release(block_ids)
    held = pool.allocate(pool.match(hashes), 1)
    assert not isinstance(held, NoRoom)
    assert held[0] == block_ids[0]
    assert len(set(held)) == 2
    pool.check_integrity([held])


def test_unheld_hits_do_not_count_as_room():
    pool = BlockPool(2)
    hashes = _hashes(1)
    pool.release(_fill(pool, hashes))
    assert pool.allocate(pool.match(hashes), 2) == NoRoom(num_wanted=2, num_free=1)


def test_a_shared_block_stays_held_until_both_let_go():
    pool = BlockPool(1)
    hashes = _hashes(1)
    block_ids = _fill(pool, hashes)
    pool.allocate(pool.match(hashes), 0)
    pool.release(block_ids)
    assert pool.num_free == 0
    pool.release(block_ids)
    assert pool.num_free == 1


def test_a_second_block_of_the_same_content_keeps_no_hash():
    pool = BlockPool(2)
    hashes = _hashes(1)
    first = _fill(pool, hashes)
    (second,) = pool.allocate(PrefixHit(), 1)
    assert not pool.remember(second, hashes[0])
    assert pool.match(hashes).block_ids == first


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(1, 5)), max_size=60))
def test_the_books_agree_after_any_history(actions: list[tuple[int, int, int]]):
    pool = BlockPool(8)
    tables: list[tuple[int, ...]] = []
    for action, salt, num_blocks in actions:
        if action == 0 and tables:
            pool.release(tables.pop(salt % len(tables)))
            continue
        hashes = _hashes(num_blocks, salt)
        hit = pool.match(hashes)
        table = pool.allocate(hit, num_blocks - len(hit.block_ids))
        if isinstance(table, NoRoom):
            continue
        tables.append(table)
        if action == 1:
            for block_id, block_hash in zip(table, hashes, strict=True):
                pool.remember(block_id, block_hash)
        pool.check_integrity(tables)
    for table in tables:
        pool.release(table)
    pool.check_integrity([])
    assert pool.num_free == 8
