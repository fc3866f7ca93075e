"""The gateway's door: what it knows of the queue, and whom it turns away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.simulator.backlog import Backlog
from benchmarks.simulator.scheduler import SimulatedScheduler
from benchmarks.simulator.trace import TraceRequest
from services.core.queue_status import QueueView
from services.wire.subjects import BANDS, lane_of

STATUS_GAP_S = 1.0
"""As the schedulers': so often they tell gateways of the queue."""


class Door:
    """Refuses what could not begin before its deadline, as the gateway does."""

    def __init__(self, backlog: Backlog, schedulers: Sequence[SimulatedScheduler]) -> None:
        self._backlog = backlog
        self._schedulers = schedulers
        self._view = QueueView()
        self._due_s = 0.0

    def refuses(self, request: TraceRequest, deadline_s: float, now_s: float) -> bool:
        """Whether a request that comes now, and would wait so long, is turned away."""
        if now_s >= self._due_s:
            self._due_s = now_s + STATUS_GAP_S
            depths = Counter(self._backlog.depths)
            for scheduler in self._schedulers:
                depths.update(entry.lane for entry in scheduler.held)
            for scheduler in self._schedulers:
                self._view.hear(scheduler.status(depths, now_s), now_s)
        lane = lane_of(request.request_class, 1, request.tenant)
        wait_s = self._view.wait_s(lane, BANDS, now_s)
        return wait_s is not None and wait_s > deadline_s
