"""Tells an engine's listener what happened; a listener that fails stops no engine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from worker.engine.full_block import FullBlock
from worker.engine.port import EngineListener, SequenceOutput, StepReport
from worker.engine.step_plan import StepPlan

log = structlog.get_logger(__name__)


class Teller:
    """Numbers the steps.

    Attributes:
        listener: hears of them; nobody does until there is one.
    """

    def __init__(self) -> None:
        self.listener: EngineListener | None = None
        self._step_idx = 0

    def tell_step(self, started_ns: int, plan: StepPlan, outputs: Sequence[SequenceOutput]) -> None:
        """A step ended."""
        if self.listener is None:
            return
        report = StepReport(
            step_idx=self._step_idx,
            started_ns=started_ns,
            ended_ns=time.time_ns(),
            outputs=outputs,
            prefill_tokens_by_seq={s.seq.seq_id: s.num_tokens for s in plan.slices if s.is_prefill},
            decode_seq_ids=[s.seq.seq_id for s in plan.slices if not s.is_prefill],
            preempted_seq_ids=[seq.seq_id for seq in plan.preempted],
            work=plan.work,
        )
        self._step_idx += 1
        try:
            self.listener.on_step(report)
        except Exception:
            log.exception("listener.failed")

    def tell_blocks(self, blocks: Sequence[FullBlock]) -> None:
        """These full blocks may go out."""
        if self.listener is None:
            return
        try:
            self.listener.on_blocks_full(blocks)
        except Exception:
            log.exception("listener.failed")

    def has_room(self, num_bytes: int) -> bool:
        """Whether the listener would take so many bytes of blocks now."""
        return self.listener is not None and self.listener.has_room(num_bytes)
