from __future__ import annotations

from benchmarks.gateway import gaps_at_once
from benchmarks.stream_reader import Stream


def test_gaps_count_while_all_streams_run():
    early = Stream(0.0, arrivals_s=[1.0, 2.0, 3.0, 5.0])
    late = Stream(0.0, arrivals_s=[2.0, 2.5, 5.5, 9.0])
    assert gaps_at_once([early, late]) == [1.0, 2.0, 0.5]


def test_streams_that_never_ran_together_have_no_gaps():
    apart = [Stream(0.0, arrivals_s=[1.0, 2.0]), Stream(0.0, arrivals_s=[3.0, 4.0])]
    assert gaps_at_once(apart) == []
    assert gaps_at_once([*apart, Stream(0.0)]) == []
