from __future__ import annotations

from services.core.sampling import SamplingParams
from worker.engine.block_pool import BlockPool
from worker.engine.port import SequenceSpec
from worker.engine.sequence import LiveSequence
from worker.engine.step_scheduler import SchedulerLimits, StepPlan, StepScheduler

BLOCK = 4


class Rig:
    """A scheduler whose steps always succeed and whose tokens count up."""

    def __init__(self, num_blocks: int, *, max_num_seqs: int = 8, budget: int = 16) -> None:
        self.pool = BlockPool(num_blocks)
        limits = SchedulerLimits(BLOCK, max_num_seqs, budget)
        self.scheduler = StepScheduler(self.pool, limits)
        self.num_added = 0

    def add(self, prompt: list[int], delivered: tuple[int, ...] = ()) -> LiveSequence:
        spec = SequenceSpec(
            f"s{self.num_added}",
            prompt,
            SamplingParams(max_tokens=1000),
            delivered_token_ids=delivered,
        )
        seq = LiveSequence(spec, arrival_idx=self.num_added, root=b"r", max_model_len=10_000)
        self.num_added += 1
        self.scheduler.add(seq)
        return seq

    def step(self) -> StepPlan:
        plan = self.scheduler.schedule()
        for done in plan.slices:
            self.scheduler.commit(done)
            if done.samples:
                done.seq.token_ids.append(1000 + len(done.seq.token_ids))
        self.pool.check_integrity(seq.block_table for seq in self.scheduler.live())
        return plan


def _planned(plan: StepPlan) -> list[tuple[str, int, int]]:
    return [(s.seq.seq_id, s.start, s.num_tokens) for s in plan.slices]


def test_a_short_prompt_is_computed_in_one_step_and_then_decodes():
    rig = Rig(8)
    rig.add([1, 2, 3, 4, 5])
    assert _planned(rig.step()) == [("s0", 0, 5)]
    assert _planned(rig.step()) == [("s0", 5, 1)]


def test_a_long_prompt_is_cut_at_block_ends():
    rig = Rig(16, budget=10)
    rig.add(list(range(20)))
    plans = [rig.step() for _ in range(3)]
    assert [_planned(plan) for plan in plans] == [[("s0", 0, 8)], [("s0", 8, 8)], [("s0", 16, 4)]]
    assert [plan.slices[0].samples for plan in plans] == [False, False, True]


def test_a_budget_below_a_block_still_advances():
    rig = Rig(8, budget=3, max_num_seqs=2)
    rig.add(list(range(8)))
    assert _planned(rig.step()) == [("s0", 0, 3)]
    assert _planned(rig.step()) == [("s0", 3, 1)]


def test_decodes_come_before_prefills():
    rig = Rig(32, budget=9)
    rig.add([1, 2])
    rig.step()
    rig.add(list(range(50, 70)))
    assert _planned(rig.step()) == [("s0", 2, 1), ("s1", 0, 8)]


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


def test_outputs_are_recomputed_one_per_step_without_sampling():
    rig = Rig(8)
    seq = rig.add([1, 2, 3], delivered=(7, 8))
    steps = [rig.step().slices[0] for _ in range(3)]
    assert [(s.start, s.num_tokens, s.is_prefill, s.samples) for s in steps] == [
        (0, 3, True, False),
        (3, 1, False, False),
        (4, 1, False, True),
    ]
    assert seq.num_output == 3


def test_a_full_hit_leaves_one_token_to_compute():
    rig = Rig(16)
    first = rig.add(list(range(8)))
    rig.step()
    rig.scheduler.remove(first)
    second = rig.add(list(range(8)))
    assert _planned(rig.step()) == [("s1", 4, 4)]
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
