import itertools

from hypothesis import given
from hypothesis import strategies as st

from services.cli.explain.timeline import Activity, Stretch, Window, stretches, sum_by_part

WINDOW = Window(100, 200)

ACTIVITIES = st.lists(
    st.builds(
        Activity,
        part=st.sampled_from(["prefill", "decode", "network"]),
        rank=st.integers(0, 3),
        start_ns=st.integers(0, 300),
        end_ns=st.integers(0, 300),
    ),
    max_size=12,
)


@given(ACTIVITIES)
def test_stretches_fill_the_window_without_gap_or_overlap(found: list[Activity]):
    pieces = stretches(WINDOW, found)
    assert pieces[0].start_ns == WINDOW.start_ns
    assert pieces[-1].end_ns == WINDOW.end_ns
    for before, after in itertools.pairwise(pieces):
        assert before.end_ns == after.start_ns
        assert before.part != after.part
    assert sum(sum_by_part(pieces).values()) == WINDOW.duration_ns


@given(ACTIVITIES)
def test_each_moment_is_paid_by_the_lowest_rank_that_began_last(found: list[Activity]):
    by_moment = {
        moment: piece.part
        for piece in stretches(WINDOW, found)
        for moment in range(piece.start_ns, piece.end_ns)
    }
    for moment, part in by_moment.items():
        live = [one for one in found if one.start_ns <= moment < one.end_ns]
        if not live:
            assert part == ""
            continue
        best = min((one.rank, -one.start_ns) for one in live)
        assert part in {one.part for one in live if (one.rank, -one.start_ns) == best}


def test_what_nobody_pays_for_is_shown():
    pieces = stretches(WINDOW, [Activity("decode", 0, 120, 150)])
    assert pieces == [Stretch("", 100, 120), Stretch("decode", 120, 150), Stretch("", 150, 200)]


def test_a_window_that_ends_before_it_begins_is_empty():
    assert stretches(Window(5, 5), [Activity("decode", 0, 0, 10)]) == []
