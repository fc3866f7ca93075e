"""Held requests to workers: order, batch, place, submit, and what to do with the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry import trace

from services.core.dead_letter import DeathReason
from services.core.errors import (
    DeadlineExceeded,
    DependencyLost,
    Overloaded,
    RequestCancelled,
    TokenmillError,
)
from services.core.load import WorkerHeartbeat
from services.core.request import SubmissionOutcome, SubmissionResult
from services.runtime import faults
from services.runtime.logs import get_logger
from services.scheduler.batching import Batch, BatchLimits, form_batches, seconds_until_due
from services.scheduler.fairness import FairnessRules
from services.scheduler.fleet.fleet import Fleet, Ticket, num_free
from services.scheduler.fleet.kv_tracker import KvTracker
from services.scheduler.fleet.served_outputs import ServedOutputs
from services.scheduler.fleet.worker_client import WorkerClient
from services.scheduler.metrics import PLACE_SECONDS, count_submission
from services.scheduler.order import FairOrder
from services.scheduler.placement import PlacementPolicy
from services.scheduler.queue.dead_letters import DeadLetters
from services.scheduler.queue.hold import Hold, Settlement, Spawn, Word, owner_retry
from services.scheduler.queue.holdings import Holdings
from services.scheduler.queue.message import QueueMessage
from services.scheduler.queue.pull_plan import Demand
from services.scheduler.scaling import FleetLoad, desired_workers
from services.scheduler.submission import PlacedBatch
from services.scheduler.wait_book import WaitBook

log = get_logger(__name__)

TICK_S = 0.1
"""Expired requests and silent workers are looked for at least so often."""

# The worker, or the way to it, is at fault, not the request.
_WORKER_LOST = (DependencyLost, Overloaded, DeadlineExceeded, RequestCancelled)


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """Bounds of dispatching; see the settings of the same names."""

    batch: BatchLimits
    fairness: FairnessRules
    num_look_ahead: int
    max_held: int
    submit_timeout_s: float
    owner_retry_s: float
    max_deliveries: int
    max_failures: int


class Dispatcher:
    """Takes what the queue reader pulls, and says how much more it may pull.

    Args:
        spawn: runs submissions and holds beside each other.
        on_room: called when more may be pulled than before.
        policy: chooses workers.
        kv: where prompts' blocks are.
        letters: where requests go that are given up.
    """

    def __init__(
        self,
        fleet: Fleet,
        client: WorkerClient,
        limits: DispatchLimits,
        *,
        spawn: Spawn,
        on_room: Callable[[], None],
        policy: PlacementPolicy,
        kv: KvTracker,
        letters: DeadLetters,
    ) -> None:
        self._fleet = fleet
        self._client = client
        self._limits = limits
        self._spawn = spawn
        self._on_room = on_room
        self._policy = policy
        self._kv = kv
        self._outputs = ServedOutputs()
        self._wake = asyncio.Event()
        self._is_draining = False
        self._order = FairOrder(limits.fairness)
        self._waits = WaitBook()
        self.holdings = Holdings(
            max_deliveries=limits.max_deliveries,
            spawn=spawn,
            on_change=self._wake.set,
            on_room=on_room,
            hashes_of=kv.hashes_of,
            letters=letters,
        )

    @property
    def has_workers(self) -> bool:
        """Whether any worker may be given requests now."""
        return bool(self._fleet.candidates(time.monotonic()))

    def take(self, message: QueueMessage) -> None:
        """Takes a pulled message over."""
        self.holdings.take(message)
        if self._is_draining:
            self.holdings.give_back()

    def hear(self, heartbeat: WorkerHeartbeat) -> None:
        """Takes a worker's word."""
        now_s = time.monotonic()
        self._kv.on_heartbeat(heartbeat, now_s)
        for output in self._outputs.growth(heartbeat):
            self._order.produced(
                output.request_class.value, output.tenant, output.num_tokens, now_s
            )
        if self._fleet.hear(heartbeat, now_s):
            log.info("worker.found", worker_id=heartbeat.worker_id, address=heartbeat.address)
            self._client.connect(heartbeat.address)
        self._wake.set()

    def demand(self) -> Demand | None:
        """Free capacity and a look-ahead; None while nothing must be pulled."""
        candidates = self._fleet.candidates(time.monotonic())
        if self._is_draining or not candidates:
            return None
        return Demand(
            num_room=num_free(candidates) + self._limits.num_look_ahead,
            num_left=self._limits.max_held - len(self.holdings),
            num_waiting=self.holdings.num_waiting(),
        )

    def num_ready_workers(self) -> int:
        """Workers that may be given requests now."""
        return len(self._fleet.candidates(time.monotonic()))

    def desired_workers(self, num_queued: int) -> int:
        """How many workers the model should have, when so many requests are in the queue."""
        now_s = time.monotonic()
        candidates = self._fleet.candidates(now_s)
        load = FleetLoad(
            num_workers=len(candidates),
            num_places=sum(candidate.max_requests for candidate in candidates),
            num_running=sum(candidate.num_requests for candidate in candidates),
            num_waiting=num_queued,
            num_per_s=sum(band.num_per_s for band in self.holdings.bands(now_s).values()),
        )
        return desired_workers(load)

    async def run(self) -> None:
        """Places what is held until cancelled."""
        while True:
            pause_s = self._place()
            await self._client.retain(self._fleet.addresses())
            self._on_room()
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def drain(self, timeout_s: float) -> None:
        """Gives back what waits and lets submissions finish; what is left comes again by itself."""
        self._is_draining = True
        self.holdings.give_back()
        try:
            async with asyncio.timeout(timeout_s):
                await self.holdings.wait_empty()
        except TimeoutError:
            log.warning("scheduler.drain_cut", num_held=len(self.holdings))

    def _place(self) -> float:
        """Submits all that can go now; returns how long nothing more can, at most."""
        with PLACE_SECONDS.time():
            return self._place_all(time.monotonic(), time.time_ns())

    def _place_all(self, now_s: float, now_ns: int) -> float:
        for worker_id in self._fleet.sweep(now_s):
            log.warning("worker.lost", worker_id=worker_id)
            self._kv.forget(worker_id)
            self._outputs.forget(worker_id)
        waiting = self.holdings.waiting()
        if not waiting:
            # A heartbeat only: those of a large fleet come far more often than requests.
            self._waits.clear()
            return TICK_S
        now_unix_ms = now_ns // 1_000_000
        ordered = self._order.order(waiting, now_unix_ms=now_unix_ms, now_s=now_s)
        for entry in ordered.expired:
            self.holdings.settle(entry.key, Settlement(Word.TERM, "expired"))
        candidates = self._fleet.candidates(now_s)
        due_s = seconds_until_due(
            ordered.ready,
            self._limits.batch,
            has_idle_worker=any(candidate.is_idle for candidate in candidates),
            now_s=now_s,
        )
        if due_s > 0:
            return min(due_s, TICK_S)
        if ordered.ready and candidates:
            faults.block(faults.PLACE)
        formed = form_batches(
            ordered.ready, candidates, self._limits.batch, self._policy, now_s, now_unix_ms
        )
        for entry in formed.too_late:
            self.holdings.settle(entry.key, Settlement(Word.TERM, "too_late", is_refused=True))
        waits = self._waits.round(
            ordered.ready,
            [entry for batch in formed.batches for entry in batch.requests],
            has_room=num_free(candidates) > 0,
            now_s=now_s,
        )
        for batch in formed.batches:
            for entry, num_missing in zip(batch.requests, batch.missing_tokens, strict=True):
                self._order.placed(entry, num_missing, now_s)
            count_submission(batch, self._limits.batch)
            holds = [self.holdings.claim(entry.key) for entry in batch.requests]
            placed = PlacedBatch(batch, holds, self._limits.batch, waits, now_ns)
            self._spawn(self._submit(batch, placed, holds, self._ticket(batch, now_s)))
        return TICK_S

    def _ticket(self, batch: Batch, now_s: float) -> Ticket:
        return self._fleet.submit(
            batch.worker_id,
            num_requests=len(batch.requests),
            num_prompt_tokens=batch.num_missing_tokens,
            now_s=now_s,
        )

    async def _submit(
        self, batch: Batch, placed: PlacedBatch, holds: list[Hold], ticket: Ticket
    ) -> None:
        address = self._fleet.address_of(batch.worker_id)
        try:
            results, load = await placed.submit(
                self._client, address, timeout_s=self._limits.submit_timeout_s
            )
        except Exception as exc:
            # Whatever it is, it concerns this batch alone: the others must not fall with it.
            log.warning(
                "worker.submit_failed",
                worker_id=batch.worker_id,
                batch_size=len(holds),
                error=repr(exc),
                exc_info=None if isinstance(exc, TokenmillError) else exc,
            )
            is_worker_lost = isinstance(exc, _WORKER_LOST)
            self._fleet.fail(ticket, is_suspect=is_worker_lost)
            for hold in holds:
                self._again(hold, is_worker_lost=is_worker_lost)
            return
        is_refused = any(result.outcome is SubmissionOutcome.REFUSED for result in results)
        self._fleet.answer(ticket, load, refused=is_refused)
        for hold, result in zip(holds, results, strict=True):
            self._conclude(hold, result, batch)

    def _conclude(self, hold: Hold, result: SubmissionResult, batch: Batch) -> None:
        key = hold.entry.key
        with trace.use_span(hold.span):  # so that the line bears the request's trace
            log.info(
                "request.placed",
                request_id=result.request_id,
                worker_id=batch.worker_id,
                batch_size=len(batch.requests),
                outcome=result.outcome.value,
                reason=result.reason,
            )
        match result.outcome:
            case SubmissionOutcome.ACCEPTED | SubmissionOutcome.GONE:
                self.holdings.settle(key, Settlement(Word.ACK, result.outcome.value))
            case SubmissionOutcome.REFUSED:
                self._release(hold, failed=False)
            case SubmissionOutcome.OWNER_UNREACHABLE:
                retry_s = self._limits.owner_retry_s
                self.holdings.settle(key, owner_retry(hold, retry_s, time.time()))

    def _again(self, hold: Hold, *, is_worker_lost: bool) -> None:
        death = DeathReason.FAILED_SUBMISSIONS
        if not is_worker_lost and hold.entry.num_failures + 1 >= self._limits.max_failures:
            self.holdings.settle(hold.entry.key, Settlement(Word.TERM, "failed", death=death))
        else:
            self._release(hold, failed=True)

    def _release(self, hold: Hold, *, failed: bool) -> None:
        self.holdings.release(hold.entry.key, failed=failed)
        if self._is_draining:
            self.holdings.give_back()
