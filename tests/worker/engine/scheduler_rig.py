"""A step scheduler under test, and what it planned."""

from __future__ import annotations

from typing import Any

from services.core.request import RequestClass
from services.core.sampling import SamplingParams
from worker.engine.block_pool import BlockPool
from worker.engine.port import SequenceSpec
from worker.engine.sequence import LiveSequence
from worker.engine.step_limits import PrefillLimit, SchedulerLimits
from worker.engine.step_plan import StepPlan
from worker.engine.step_scheduler import StepScheduler

BLOCK = 4


class Rig:
    """A scheduler whose steps always succeed and whose tokens count up."""

    def __init__(
        self,
        num_blocks: int,
        *,
        max_num_seqs: int = 8,
        budget: int = 16,
        prefill_limit: PrefillLimit | None = None,
    ) -> None:
        self.pool = BlockPool(num_blocks)
        limits = SchedulerLimits(BLOCK, max_num_seqs, budget)
        self.scheduler = StepScheduler(self.pool, limits, prefill_limit)
        self.num_added = 0

    def add(
        self,
        prompt: list[int],
        delivered: tuple[int, ...] = (),
        request_class: RequestClass = RequestClass.INTERACTIVE,
        **sampling: Any,
    ) -> LiveSequence:
        spec = SequenceSpec(
            f"s{self.num_added}",
            prompt,
            SamplingParams(max_tokens=1000, **sampling),
            delivered_token_ids=delivered,
            request_class=request_class,
        )
        seq = LiveSequence(spec, arrival_idx=self.num_added, root=b"r", max_model_len=10_000)
        self.num_added += 1
        self.scheduler.add(seq)
        return seq

    def step(self) -> StepPlan:
        plan = self.scheduler.schedule()
        for done in plan.slices:
            if done.samples:
                done.seq.token_ids.append(1000 + len(done.seq.token_ids))
            self.scheduler.commit(done.without_drafts(len(done.draft_token_ids)))
            done.seq.draft_token_ids = ()
        self.pool.check_integrity(seq.block_table for seq in self.scheduler.live())
        return plan


def planned(plan: StepPlan) -> list[tuple[str, int, int]]:
    return [(s.seq.seq_id, s.start, s.num_tokens) for s in plan.slices]
