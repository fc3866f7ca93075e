from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.fleet.coming_blocks import ComingBlocks

BLOCKS = tuple(bytes([idx]) * 16 for idx in range(8))


def test_what_a_worker_was_given_counts_as_held_until_its_time():
    coming = ComingBlocks()
    coming.add("w", BLOCKS[:3], until_s=2.0)
    assert coming.extend({}, BLOCKS, 1.9) == {"w": 3}
    assert coming.extend({}, BLOCKS, 2.0) == {}
    assert len(coming) == 0


def test_it_goes_on_where_what_the_worker_holds_ends():
    coming = ComingBlocks()
    coming.add("w", BLOCKS[2:5], until_s=2.0)
    assert coming.extend({"w": 2, "v": 1}, BLOCKS, 0.0) == {"w": 5, "v": 1}
    # Without the beginning nobody can use it.
    assert coming.extend({"v": 1}, BLOCKS, 0.0) == {"v": 1}


def test_each_prompt_goes_on_where_the_one_before_it_ends():
    coming = ComingBlocks()
    coming.add("w", BLOCKS[:3], until_s=2.0)
    coming.add("w", BLOCKS[3:6], until_s=2.0)
    assert coming.extend({}, BLOCKS, 0.0) == {"w": 6}
    # The events of the first one came.
    assert coming.extend({"w": 2}, BLOCKS, 0.0) == {"w": 6}


def test_prompts_share_no_more_than_their_beginning():
    coming = ComingBlocks()
    coming.add("w", (*BLOCKS[:3], b"other"), until_s=2.0)
    assert coming.extend({}, BLOCKS, 0.0) == {"w": 3}


def test_a_later_prompt_with_the_same_beginning_keeps_it():
    coming = ComingBlocks()
    coming.add("w", BLOCKS[:3], until_s=2.0)
    coming.add("w", BLOCKS[:2], until_s=5.0)
    assert coming.extend({}, BLOCKS, 3.0) == {"w": 2}


def test_the_first_that_should_be_done_is_forgotten_when_too_many_come():
    coming = ComingBlocks(max_prompts=1)
    coming.add("soon", BLOCKS[:3], until_s=2.0)
    coming.add("later", BLOCKS[:3], until_s=3.0)
    assert coming.extend({}, BLOCKS, 0.0) == {"later": 3}


@given(
    st.lists(
        st.tuples(st.sampled_from("wv"), st.integers(0, 7), st.integers(0, 8), st.integers(1, 5))
    )
)
def test_nothing_is_remembered_beyond_its_time(prompts: list[tuple[str, int, int, int]]):
    coming = ComingBlocks(max_prompts=5)
    for worker_id, first, last, until_s in prompts:
        coming.add(worker_id, BLOCKS[first:last], until_s=float(until_s))
        assert len(coming) <= 5
    assert coming.extend({"w": 1}, BLOCKS, 5.0) == {"w": 1}
    assert len(coming) == 0
