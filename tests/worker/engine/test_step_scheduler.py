from __future__ import annotations

import sys
from typing import Any

from tests.worker.engine.scheduler_rig import BLOCK, Rig, planned
from worker.engine.step_plan import StepPlan


def test_a_short_prompt_is_computed_in_one_step_and_then_decodes():
    rig = Rig(8)
    rig.add([1, 2, 3, 4, 5])
    assert planned(rig.step()) == [("s0", 0, 5)]
    assert planned(rig.step()) == [("s0", 5, 1)]


def test_a_long_prompt_is_cut_at_block_ends():
    rig = Rig(16, budget=10)
    rig.add(list(range(20)))
    plans = [rig.step() for _ in range(3)]
    assert [planned(plan) for plan in plans] == [[("s0", 0, 8)], [("s0", 8, 8)], [("s0", 16, 4)]]
    assert [plan.slices[0].samples for plan in plans] == [False, False, True]


def test_a_budget_below_a_block_still_advances():
    rig = Rig(8, budget=3, max_num_seqs=2)
    rig.add(list(range(8)))
    assert planned(rig.step()) == [("s0", 0, 3)]
    assert planned(rig.step()) == [("s0", 3, 1)]


def test_decodes_come_before_prefills():
    rig = Rig(32, budget=9)
    rig.add([1, 2])
    rig.step()
    rig.add(list(range(50, 70)))
    assert planned(rig.step()) == [("s0", 2, 1), ("s1", 0, 8)]


def test_a_prompt_is_admitted_only_if_all_of_it_fits():
    rig = Rig(5, budget=8)
    rig.add(list(range(12)))
    rig.add(list(range(100, 108)))
    rig.step()
    assert rig.scheduler.num_running == 1
    assert rig.scheduler.num_waiting == 1


def test_no_more_sequences_run_than_allowed():
    rig = Rig(32, max_num_seqs=2)
    for start in range(3):
        rig.add([start])
    rig.step()
    assert (rig.scheduler.num_running, rig.scheduler.num_waiting) == (2, 1)


def test_the_latest_arrival_gives_way_when_blocks_run_out():
    rig = Rig(5)
    oldest = rig.add([1, 2, 3])
    latest = rig.add([4, 5, 6])
    preempted = []
    while not preempted:
        preempted = rig.step().preempted
    assert preempted == [latest]
    assert latest.block_table == []
    assert oldest.num_computed > 3


def test_no_newcomer_enters_in_a_step_that_preempted():
    rig = Rig(5)
    rig.add([1, 2, 3])
    rig.add([4, 5, 6])
    plan = StepPlan()
    while not plan.preempted:
        plan = rig.step()
    assert {piece.seq.seq_id for piece in plan.slices} == {"s0"}


def test_a_preempted_sequence_finds_its_own_full_blocks_again():
    rig = Rig(6)
    oldest = rig.add([1, 2, 3, 4, 5, 6, 7])
    latest = rig.add([11, 12, 13, 14, 15, 16, 17])
    while not rig.step().preempted:
        pass
    rig.scheduler.remove(oldest)
    num_tokens = len(latest.token_ids)
    rig.scheduler.schedule()
    assert latest.num_computed >= BLOCK
    assert len(latest.token_ids) == num_tokens


def test_outputs_are_recomputed_together_and_sample_at_the_end_only():
    rig = Rig(8, max_num_seqs=2, budget=4)
    seq = rig.add([1, 2, 3], delivered=(7, 8, 9, 10))
    steps = [rig.step().slices[0] for _ in range(3)]
    assert [(s.start, s.num_tokens, s.is_prefill, s.samples) for s in steps] == [
        (0, 3, True, False),
        (3, 3, False, False),
        (6, 1, False, True),
    ]
    assert seq.num_output == 5


def test_a_full_hit_leaves_one_token_to_compute():
    rig = Rig(16)
    first = rig.add(list(range(8)))
    rig.step()
    rig.scheduler.remove(first)
    second = rig.add(list(range(8)))
    assert planned(rig.step()) == [("s1", 4, 4)]
    assert second.cached_tokens == 4


def test_removal_returns_all_blocks():
    rig = Rig(8)
    seqs = [rig.add([start] * 5) for start in range(2)]
    rig.step()
    for seq in seqs:
        rig.scheduler.remove(seq)
    assert rig.pool.num_free == 8
    assert not rig.scheduler.has_work


def test_every_sequence_completes_under_constant_shortage():
    rig = Rig(7)
    seqs = [rig.add([start] * 6) for start in range(5)]
    for _ in range(500):
        rig.step()
        for seq in seqs:
            if seq.num_output >= 10 and seq in rig.scheduler.live():
                rig.scheduler.remove(seq)
    assert all(seq.num_output >= 10 for seq in seqs)


def _calls_of_a_decode_step(num_seqs: int) -> int:
    rig = Rig(4 * num_seqs, max_num_seqs=num_seqs, budget=4 * num_seqs)
    for start in range(num_seqs):
        rig.add([start, start + 1])
    rig.step()
    num_calls = 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal num_calls
        num_calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        plan = rig.scheduler.schedule()
    finally:
        sys.setprofile(before)
    assert len(plan.slices) == num_seqs
    return num_calls


def test_planning_a_step_grows_with_its_sequences_not_with_their_square():
    assert _calls_of_a_decode_step(400) < 5 * _calls_of_a_decode_step(100)
