import pytest

from worker.engine.free_list import FreeList


def test_blocks_come_in_order_at_first():
    free = FreeList(3)
    assert [free.pop_head() for _ in range(3)] == [0, 1, 2]


def test_a_block_leaves_from_the_middle():
    free = FreeList(3)
    free.remove(1)
    assert list(free) == [0, 2]
    assert len(free) == 2


def test_head_and_tail_take_blocks_back():
    free = FreeList(3)
    for _ in range(3):
        free.pop_head()
    free.append_tail(1)
    free.append_tail(2)
    free.push_head(0)
    assert list(free) == [0, 1, 2]


def test_an_empty_list_gives_nothing():
    with pytest.raises(IndexError):
        FreeList(0).pop_head()
