"""A scheduler: the real order, batches, fleet and policy, without the messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.simulator.backlog import Backlog
from benchmarks.simulator.worker import SimulatedWorker
from services.core.kv_events import KvEvent
from services.core.load import WorkerHeartbeat
from services.scheduler.batching import Batch, BatchLimits, form_batches
from services.scheduler.fleet import Fleet, num_free
from services.scheduler.kv_index import KvIndex
from services.scheduler.order import FairOrder, HeldRequest
from services.scheduler.policies.registry import make_policy
from services.scheduler.pull_plan import Demand

_NEVER_SILENT_S = 1e9

MAX_HELD = 256
"""As the process's setting `max_held` by default."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What a scheduler decided at one moment."""

    batches: list[Batch]
    num_expired: int


class SimulatedScheduler:
    """Pulls, orders, batches and places as the process does."""

    def __init__(
        self,
        policy: str,
        workers: Sequence[SimulatedWorker],
        limits: BatchLimits,
        *,
        num_look_ahead: int,
        salt: str,
        seed: int,
    ) -> None:
        # A worker without work says nothing here, and is not lost for that.
        self.fleet = Fleet(_NEVER_SILENT_S, salt)
        for worker in workers:
            self.fleet.set_step_time(worker.worker_id, worker.shape.model)
        self.index = KvIndex()
        self._policy = make_policy(policy, self.index, seed)
        self._limits = limits
        self._order = FairOrder()
        self._num_look_ahead = num_look_ahead
        self.held: list[HeldRequest] = []

    def hear(self, heartbeat: WorkerHeartbeat, event: KvEvent | None, now_s: float) -> None:
        """Takes a worker's word on its load, and on its blocks if they changed."""
        self.fleet.hear(heartbeat, now_s)
        if event is not None:
            self.index.apply(event)

    def place(self, backlog: Backlog, now_s: float) -> Placed:
        """Pulls what can run, and finds workers for it."""
        candidates = self.fleet.candidates(now_s)
        if len(backlog):
            demand = Demand(
                num_room=num_free(candidates) + self._num_look_ahead,
                num_left=MAX_HELD - len(self.held),
                num_waiting=Counter(entry.lane for entry in self.held),
            )
            self.held += backlog.pull(demand)
        if not self.held:
            return Placed([], 0)
        ordered = self._order.order(self.held, now_unix_ms=round(now_s * 1000), now_s=now_s)
        batches = form_batches(ordered.ready, candidates, self._limits, self._policy, now_s)
        for batch in batches:
            for entry, num_missing in zip(batch.requests, batch.missing_tokens, strict=True):
                self._order.placed(entry, num_missing, now_s)
        if batches or ordered.expired:
            placed = {entry.key for batch in batches for entry in batch.requests}
            self.held = [entry for entry in ordered.ready if entry.key not in placed]
        return Placed(batches, len(ordered.expired))
