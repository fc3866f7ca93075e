"""A scheduler: the real order, batches, fleet and policy, without the messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.simulator.backlog import Backlog
from benchmarks.simulator.worker import SimulatedWorker
from services.core.kv_events import KvEvent
from services.core.load import WorkerHeartbeat
from services.core.queue_status import BandStatus, QueueStatus
from services.core.rate import EventRate
from services.scheduler.batching import Batch, BatchLimits, form_batches
from services.scheduler.fleet.fleet import Fleet, num_free
from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.order import FairOrder, HeldRequest
from services.scheduler.policies.registry import make_policy
from services.scheduler.queue.pull_plan import Demand
from services.wire.subjects import BANDS

_NEVER_SILENT_S = 1e9

MAX_HELD = 256
"""As the process's setting `max_held` by default."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What a scheduler decided at one moment."""

    batches: Sequence[Batch]
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
        self._name = salt
        self._policy = make_policy(policy, self.index, seed)
        self._limits = limits
        self._order = FairOrder()
        self._num_look_ahead = num_look_ahead
        self._rates = {band: EventRate() for band in BANDS}
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
            return Placed((), 0)
        now_unix_ms = round(now_s * 1000)
        ordered = self._order.order(self.held, now_unix_ms=now_unix_ms, now_s=now_s)
        formed = form_batches(
            ordered.ready, candidates, self._limits, self._policy, now_s, now_unix_ms
        )
        gone = {entry.key for entry in formed.too_late}
        for batch in formed.batches:
            for entry, num_missing in zip(batch.requests, batch.missing_tokens, strict=True):
                self._order.placed(entry, num_missing, now_s)
                self._rates[entry.band].add(now_s)
                gone.add(entry.key)
        if gone or ordered.expired:
            self.held = [entry for entry in ordered.ready if entry.key not in gone]
        return Placed(formed.batches, len(ordered.expired) + len(formed.too_late))

    def status(self, depths: Mapping[str, int], now_s: float) -> QueueStatus:
        """Its word on the queue.

        Args:
            depths: of the lanes, what is held included.
            now_s: the virtual clock.
        """
        held = Counter(entry.band for entry in self.held)
        return QueueStatus(
            "",
            self._name,
            {band: BandStatus(rate.per_s(now_s), held[band]) for band, rate in self._rates.items()},
            depths,
        )
