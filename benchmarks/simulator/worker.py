"""A worker whose books are real and whose steps take the time that a model says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from benchmarks.simulator.sequence import SimulatedSequence
from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.step_time import StepTimeModel, StepWork
from worker.engine.block_pool import BlockPool
from worker.engine.prefill_pace import PrefillPace
from worker.engine.settings import EngineSettings
from worker.engine.step_limits import SchedulerLimits
from worker.engine.step_plan import SequenceSlice, StepPlan
from worker.engine.step_scheduler import StepScheduler
from worker.engine.step_times import StepTimes
from worker.reports.kv_events import KvEventLog


@dataclass(frozen=True, slots=True)
class WorkerShape:
    """Size and speed of a worker.

    Attributes:
        max_requests: running and waiting at once; more are refused. As the worker's default, 4
            beyond those that run.
        itl_target_s: as the engine's setting `itl_target_ms`, and its default.
    """

    model: StepTimeModel = field(default_factory=StepTimeModel)
    num_blocks: int = 1_000
    block_size: int = 512
    max_num_seqs: int = 64
    max_requests: int = 68
    itl_target_s: float = EngineSettings().itl_target_ms / 1000


@dataclass(slots=True)
class _Stretch:
    """Equal steps, one after the other: the plan does not change before the last one ends.

    Step i takes first_s + i * growth_s: the context of those that decode grows.
    """

    plan: StepPlan
    started_s: float
    num_steps: int
    first_s: float
    growth_s: float

    def duration_s(self, num_steps: int) -> float:
        """Time of the first so many steps."""
        return num_steps * self.first_s + self.growth_s * num_steps * (num_steps - 1) / 2

    def num_steps_at(self, now_s: float) -> int:
        """Steps that are over, or under way, at that time."""
        elapsed_s = now_s - self.started_s
        if self.growth_s <= 0:
            num_steps = elapsed_s / self.first_s
        else:
            half = self.first_s / self.growth_s - 0.5
            num_steps = math.sqrt(half * half + 2 * elapsed_s / self.growth_s) - half
        return max(1, math.ceil(num_steps - 1e-9))


class SimulatedWorker:
    """Steps from event to event: while the plan cannot change, many steps are one."""

    def __init__(self, worker_id: str, shape: WorkerShape) -> None:
        self.worker_id = worker_id
        self.shape = shape
        self.kv_log = KvEventLog(worker_id, epoch=1)
        self._pool = BlockPool(shape.num_blocks, self.kv_log)
        pace = PrefillPace(
            StepTimes(shape.model),
            itl_target_s=shape.itl_target_s,
            max_tokens=shape.model.max_batched_tokens,
            min_tokens=shape.block_size,
        )
        self._scheduler = StepScheduler(
            self._pool,
            SchedulerLimits(
                block_size=shape.block_size,
                max_num_seqs=shape.max_num_seqs,
                max_batched_tokens=shape.model.max_batched_tokens,
                watermark_blocks=max(1, shape.num_blocks // 100),
            ),
            pace.max_prefill_tokens,
        )
        self._live: dict[int, SimulatedSequence] = {}
        self._stretch: _Stretch | None = None
        self._beat_idx = 0
        self.busy_s = 0.0
        self.num_preemptions = 0
        self.num_expired = 0

    @property
    def is_full(self) -> bool:
        """Whether it refuses more."""
        return len(self._live) >= self.shape.max_requests

    @property
    def next_s(self) -> float | None:
        """When its present steps end; None while it has nothing to do."""
        stretch = self._stretch
        if stretch is None:
            return None
        return stretch.started_s + stretch.duration_s(stretch.num_steps)

    def submit(self, seq: SimulatedSequence, now_s: float) -> None:
        """Takes a sequence; it is looked at when the step under way ends."""
        self._live[seq.request_idx] = seq
        self._scheduler.add(seq)
        if self._stretch is None:
            self._begin(now_s)
        elif self._stretch.num_steps > 1:
            self._stretch.num_steps = min(
                self._stretch.num_steps, self._stretch.num_steps_at(now_s)
            )

    def advance(self, now_s: float) -> list[SimulatedSequence]:
        """Ends the present steps, which end now, and begins the next; returns what finished."""
        stretch = self._stretch
        assert stretch is not None, "there is nothing to end"
        self._stretch = None
        self.busy_s += stretch.duration_s(stretch.num_steps)
        finished: list[SimulatedSequence] = []
        for planned in stretch.plan.slices:
            seq = planned.seq
            assert isinstance(seq, SimulatedSequence)
            num_steps = stretch.num_steps
            done = planned
            if num_steps > 1:
                done = SequenceSlice(
                    seq, planned.start, num_steps, is_prefill=False, samples=planned.samples
                )
            self._scheduler.commit(done)
            if planned.samples:
                if seq.first_token_s is None:
                    seq.first_token_s = now_s
                seq.set_len(len(seq.token_ids) + num_steps)
                if len(seq.token_ids) >= seq.max_len:
                    self._scheduler.remove(seq)
                    del self._live[seq.request_idx]
                    finished.append(seq)
        self._expire(now_s)
        self._begin(now_s)
        return finished

    def load(self) -> WorkerLoad:
        """How busy it is, in the words of a heartbeat."""
        num_running = self._scheduler.num_running
        num_pending = 0
        for seq in self._live.values():
            left = seq.num_prompt - seq.num_computed
            if left > 0:
                num_pending += left
        return WorkerLoad(
            max_requests=self.shape.max_requests,
            num_running=num_running,
            num_waiting=len(self._live) - num_running,
            num_free_blocks=self._pool.num_free,
            num_blocks=self._pool.num_blocks,
            block_size=self.shape.block_size,
            num_pending_prefill_tokens=num_pending,
            max_running=self.shape.max_num_seqs,
        )

    def heartbeat(self) -> WorkerHeartbeat:
        """Its word on itself."""
        self._beat_idx += 1
        return WorkerHeartbeat(
            self.worker_id,
            self.worker_id,
            "",
            WorkerState.READY,
            self._beat_idx,
            self.load(),
            itl_target_s=self.shape.itl_target_s,
        )

    def check_integrity(self) -> None:
        """Asserts that the block pool's books are right."""
        self._pool.check_integrity([seq.block_table for seq in self._live.values()])

    def _expire(self, now_s: float) -> None:
        """As the worker does at a deadline; only between steps, and that is near enough."""
        for seq in list(self._live.values()):
            if seq.first_token_s is None and seq.deadline_s <= now_s:
                self._scheduler.remove(seq)
                del self._live[seq.request_idx]
                self.num_expired += 1

    def _begin(self, now_s: float) -> None:
        if not self._scheduler.has_work:
            return
        plan = self._scheduler.schedule()
        assert plan.slices, "a sequence that fits when alone is always scheduled"
        self.num_preemptions += len(plan.preempted)
        num_prefill = num_decodes = decode_pairs = 0
        prefill_pairs = 0.0
        num_same = 1 if plan.preempted else 1 << 30
        block_size = self.shape.block_size
        for planned in plan.slices:
            seq, num_tokens = planned.seq, planned.num_tokens
            if planned.is_prefill:
                num_prefill += num_tokens
                prefill_pairs += num_tokens * (planned.start + num_tokens / 2)
                num_same = 1
                continue
            num_decodes += num_tokens
            decode_pairs += num_tokens * planned.start
            if num_tokens > 1:
                # It catches up with what it had before preemption.
                num_same = 1
            if num_same > 1:
                length = len(seq.token_ids)
                left = seq.max_len - length if planned.samples else 1
                room = len(seq.block_table) * block_size - planned.start
                num_same = min(num_same, left, room)
        model = self.shape.model
        work = StepWork(num_prefill, prefill_pairs, num_decodes, decode_pairs)
        self._stretch = _Stretch(
            plan,
            now_s,
            max(1, num_same),
            model.step_s(work),
            model.decode_pair_s * num_decodes if num_same > 1 else 0.0,
        )
