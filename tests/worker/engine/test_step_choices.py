"""Who is served first, who gives way, and what else a step takes in."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.request import RequestClass
from tests.worker.engine.scheduler_rig import Rig, planned
from worker.engine.sequence import LiveSequence


def test_more_urgent_classes_are_admitted_first():
    rig = Rig(64, max_num_seqs=2)
    for request_class in (RequestClass.BATCH, RequestClass.STANDARD, RequestClass.INTERACTIVE):
        rig.add([1], request_class=request_class)
    assert [seq_id for seq_id, _, _ in planned(rig.step())] == ["s2", "s1"]


def test_a_less_urgent_class_makes_way():
    rig = Rig(64, max_num_seqs=2)
    for _ in range(2):
        rig.add([1, 2, 3], request_class=RequestClass.BATCH)
    rig.step()
    urgent = rig.add([7, 8, 9])
    plan = rig.step()
    assert [seq.seq_id for seq in plan.preempted] == ["s1"]
    assert urgent in [piece.seq for piece in plan.slices]


def test_nobody_makes_way_for_its_own_class():
    rig = Rig(64, max_num_seqs=2)
    for start in range(3):
        rig.add([start, 2, 3])
        rig.step()
    assert rig.scheduler.num_running == 2
    assert not rig.step().preempted


def test_who_loses_least_gives_way():
    rig = Rig(9, budget=64)
    oldest = rig.add([1, 2, 3])
    longer = rig.add([4] * 13)
    short = rig.add([5, 6, 7])
    preempted = []
    while not preempted:
        preempted = rig.step().preempted
    assert preempted == [short]
    assert oldest.num_computed > 3
    assert longer.num_computed > 13


def test_a_prefix_that_is_being_computed_is_waited_for():
    rig = Rig(32, budget=8)
    prompt = list(range(20))
    for _ in range(2):
        rig.add(prompt)
    assert planned(rig.step()) == [("s0", 0, 8)]
    assert planned(rig.step()) == [("s0", 8, 8)]
    # The block that would be the last of the hit is left out: one token must be computed.
    assert planned(rig.step()) == [("s0", 16, 4), ("s1", 16, 4)]


def test_who_needs_logits_of_its_prompt_waits_for_nobody():
    rig = Rig(32, budget=32)
    prompt = list(range(12))
    rig.add(prompt)
    rig.add(prompt, prompt_logprobs=1)
    assert planned(rig.step()) == [("s0", 0, 12), ("s1", 0, 12)]


def test_prefill_is_limited_only_beside_decodes():
    rig = Rig(32, budget=64, prefill_limit=lambda work: 4 * work.num_decodes)
    rig.add([1] * 9)
    assert planned(rig.step()) == [("s0", 0, 9)]
    rig.add([2] * 9)
    assert planned(rig.step()) == [("s0", 9, 1), ("s1", 0, 4)]


def test_drafts_are_computed_with_the_last_token():
    rig = Rig(8)
    seq = rig.add([1, 2, 3])
    rig.step()
    seq.draft_token_ids = (7, 8)
    (piece,) = rig.step().slices
    assert (piece.start, piece.num_tokens, piece.samples) == (3, 3, True)
    assert piece.draft_token_ids == (7, 8)
    assert seq.num_computed == 4


def test_drafts_never_cost_another_its_blocks():
    rig = Rig(3)
    first, second = rig.add([1, 2, 3]), rig.add([4, 5, 6])
    rig.step()
    first.draft_token_ids = (7, 8, 9)
    plan = rig.step()
    assert not plan.preempted
    assert [piece.num_tokens for piece in plan.slices] == [1, 1]
    assert second.num_computed == 4


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_comes_the_books_are_right_and_everybody_ends(data: st.DataObject):
    budget = data.draw(st.integers(4, 24))
    rig = Rig(
        data.draw(st.integers(7, 20)),
        max_num_seqs=4,
        budget=budget,
        prefill_limit=lambda work: data.draw(st.integers(1, 12)),
    )
    lives: list[LiveSequence] = []
    num_steps = 0
    while rig.scheduler.has_work or len(lives) < 8:
        num_steps += 1
        assert num_steps < 2000, "somebody starves"
        if len(lives) < 8 and (data.draw(st.booleans()) or not rig.scheduler.has_work):
            prompt = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=16))
            lives.append(rig.add(prompt, request_class=data.draw(st.sampled_from(RequestClass))))
        for seq in rig.scheduler.running():
            seq.draft_token_ids = tuple(range(data.draw(st.integers(0, 3))))
        plan = rig.step()
        assert sum(piece.num_tokens for piece in plan.slices) <= budget
        assert len({piece.seq.seq_id for piece in plan.slices}) == len(plan.slices)
        assert plan.slices or not rig.scheduler.has_work
        for seq in rig.scheduler.live():
            if seq.num_output >= 10:
                rig.scheduler.remove(seq)
    assert all(seq.num_output >= 10 for seq in lives)
    assert rig.pool.num_free == rig.pool.num_blocks
