"""The event loop: arrivals, queue, schedulers, workers, and the messages between them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.simulator.backlog import Backlog
from benchmarks.simulator.door import Door
from benchmarks.simulator.scheduler import SimulatedScheduler
from benchmarks.simulator.sequence import SimulatedSequence
from benchmarks.simulator.trace import TraceRequest
from benchmarks.simulator.worker import SimulatedWorker, WorkerShape
from services.scheduler.batching import Batch, BatchLimits
from services.scheduler.fleet.peers import Peers

HEARTBEAT_GAP_S = 0.01
"""As the workers': changes closer together go out as one heartbeat."""


@dataclass(frozen=True, slots=True)
class ClusterShape:
    """What is simulated.

    Attributes:
        shapes: one per worker.
        policy: how workers are chosen.
        num_schedulers: all on one queue.
        max_queued: requests waiting; more are turned away at the door.
        deadline_s: a request without a token after so long is given up: refused at the door,
            sorted out by the scheduler, or stopped by its worker.
        hop_s: one message from process to process.
        num_look_ahead: requests pulled beyond the free capacity.
    """

    shapes: tuple[WorkerShape, ...] = (WorkerShape(),) * 8
    policy: str = "tokenmill"
    num_schedulers: int = 1
    max_queued: int = 20_000
    deadline_s: float = 600.0
    hop_s: float = 0.001
    num_look_ahead: int = 4
    batch: BatchLimits = field(default_factory=BatchLimits)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered in full."""

    request: TraceRequest
    worker_idx: int
    ttft_s: float
    latency_s: float
    cached_tokens: int


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    answered: list[Answered] = field(default_factory=list)
    num_refused: int = 0
    num_expired: int = 0
    ended_s: float = 0.0
    busy_s: list[float] = field(default_factory=list)
    num_preemptions: int = 0


class Cluster:
    """Runs a trace once."""

    def __init__(self, shape: ClusterShape, trace: Sequence[TraceRequest]) -> None:
        self._shape = shape
        self._trace = trace
        self._workers = [
            SimulatedWorker(f"worker-{idx:03}", worker) for idx, worker in enumerate(shape.shapes)
        ]
        self._backlog = Backlog()
        self._schedulers = [
            SimulatedScheduler(
                shape.policy,
                self._workers,
                shape.batch,
                num_look_ahead=shape.num_look_ahead,
                salt=str(idx),
                seed=shape.seed + idx,
            )
            for idx in range(shape.num_schedulers)
        ]
        self._introduce()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = itertools.count()
        self._now_s = 0.0
        self._step_due: list[float | None] = [None] * len(self._workers)
        self._beat_due = [False] * len(self._workers)
        self._beaten_s = [-1.0] * len(self._workers)
        self._worker_idx = {worker.worker_id: idx for idx, worker in enumerate(self._workers)}
        self._turn = 0
        self._door = Door(self._backlog, self._schedulers)
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Runs until every request has an end."""
        for idx in range(len(self._workers)):
            self._beat(idx)
        arrivals = enumerate(self._trace)
        coming = next(arrivals, None)
        while coming is not None or self._events:
            if coming is not None and (
                not self._events or coming[1].arrival_s <= self._events[0][0]
            ):
                self._now_s = max(self._now_s, coming[1].arrival_s)
                self._arrive(*coming)
                coming = next(arrivals, None)
            else:
                self._now_s, _, act = heapq.heappop(self._events)
                act()
        outcome = self.outcome
        # Nothing moves any more: what waits now would have waited for ever.
        outcome.num_expired += len(self._backlog) + sum(
            len(scheduler.held) for scheduler in self._schedulers
        )
        outcome.busy_s = [worker.busy_s for worker in self._workers]
        outcome.num_expired += sum(worker.num_expired for worker in self._workers)
        outcome.num_preemptions = sum(worker.num_preemptions for worker in self._workers)
        return outcome

    def check_integrity(self) -> None:
        """Asserts that the books of all workers are right."""
        for worker in self._workers:
            worker.check_integrity()

    def _introduce(self) -> None:
        """Schedulers know of each other, as they do a second after their start."""
        names = [str(idx) for idx in range(self._shape.num_schedulers)]
        worker_ids = [worker.worker_id for worker in self._workers]
        for name, scheduler in zip(names, self._schedulers, strict=True):
            peers = Peers(name)
            for other in names:
                peers.hear(other, 0.0)
            scheduler.fleet.set_foreign(peers.foreign(worker_ids))

    def _at(self, due_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (due_s, next(self._tie), act))

    def _arrive(self, request_idx: int, request: TraceRequest) -> None:
        block_size = self._shape.shapes[0].block_size
        pool_tokens = min(shape.num_blocks * shape.block_size for shape in self._shape.shapes)
        if (
            len(self._backlog) >= self._shape.max_queued
            or request.num_prompt + request.num_output > pool_tokens
            or self._door.refuses(request, self._shape.deadline_s, self._now_s)
        ):
            self.outcome.num_refused += 1
            return
        self._backlog.push(
            request_idx, request, request.block_hashes(block_size), self._shape.deadline_s
        )
        self._place()

    def _place(self) -> None:
        """Lets each scheduler pull and place, in turn."""
        num_schedulers = len(self._schedulers)
        for offset in range(num_schedulers):
            scheduler = self._schedulers[(self._turn + offset) % num_schedulers]
            placed = scheduler.place(self._backlog, self._now_s)
            self.outcome.num_expired += placed.num_expired
            for batch in placed.batches:
                self._submit(scheduler, batch)
        self._turn += 1

    def _submit(self, scheduler: SimulatedScheduler, batch: Batch) -> None:
        ticket = scheduler.fleet.submit(
            batch.worker_id,
            num_requests=len(batch.requests),
            num_prompt_tokens=batch.num_missing_tokens,
            now_s=self._now_s,
        )
        idx = self._worker_idx[batch.worker_id]
        worker = self._workers[idx]

        def deliver() -> None:
            is_refused = False
            for entry in batch.requests:
                if worker.is_full:
                    is_refused = True
                    scheduler.held.append(entry)
                    continue
                request_idx = entry.queue_position
                request = self._trace[request_idx]
                seq = SimulatedSequence(
                    request_idx,
                    num_prompt=request.num_prompt,
                    num_output=request.num_output,
                    block_hashes=entry.block_hashes,
                    arrived_s=request.arrival_s,
                    deadline_s=request.arrival_s + self._shape.deadline_s,
                )
                worker.submit(seq, self._now_s)
            load = worker.load()
            scheduler.fleet.answer(ticket, load, refused=is_refused)
            self._schedule_step(idx)
            self._changed(idx)

        self._at(self._now_s + self._shape.hop_s, deliver)

    def _schedule_step(self, idx: int) -> None:
        due_s = self._workers[idx].next_s
        if due_s is None or due_s == self._step_due[idx]:
            return
        self._step_due[idx] = due_s
        self._at(due_s, lambda: self._step(idx, due_s))

    def _step(self, idx: int, due_s: float) -> None:
        if self._step_due[idx] != due_s:
            return  # an arrival shortened these steps
        self._step_due[idx] = None
        for seq in self._workers[idx].advance(self._now_s):
            self._finish(idx, seq)
        self._schedule_step(idx)
        self._changed(idx)

    def _finish(self, idx: int, seq: SimulatedSequence) -> None:
        assert seq.first_token_s is not None, "it finished without a token"
        # Two hops: the first token to the gateway, and to the client.
        self.outcome.answered.append(
            Answered(
                request=self._trace[seq.request_idx],
                worker_idx=idx,
                ttft_s=seq.first_token_s - seq.arrived_s + self._shape.hop_s,
                latency_s=self._now_s - seq.arrived_s + self._shape.hop_s,
                cached_tokens=seq.cached_tokens,
            )
        )
        self.outcome.ended_s = self._now_s

    def _changed(self, idx: int) -> None:
        """The worker's load changed: a heartbeat goes out, not more often than the gap allows."""
        if self._beat_due[idx]:
            return
        self._beat_due[idx] = True
        due_s = max(self._now_s, self._beaten_s[idx] + HEARTBEAT_GAP_S)
        self._at(due_s, lambda: self._beat(idx))

    def _beat(self, idx: int) -> None:
        self._beat_due[idx] = False
        self._beaten_s[idx] = self._now_s
        worker = self._workers[idx]
        heartbeat, event = worker.heartbeat(), worker.kv_log.take()

        def hear() -> None:
            for scheduler in self._schedulers:
                scheduler.hear(heartbeat, event, self._now_s)
            if len(self._backlog) or any(scheduler.held for scheduler in self._schedulers):
                self._place()

        self._at(self._now_s + self._shape.hop_s, hear)


def with_policy(shape: ClusterShape, policy: str) -> ClusterShape:
    """The same cluster under another policy."""
    return replace(shape, policy=policy)
