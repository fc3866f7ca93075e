"""What schedulers say of the queue, and what it means for one more request."""

from __future__ import annotations

import math
import time

from nats.aio.msg import Msg

from gateway.queue.drain_rate import MAX_RETRY_AFTER_S, MIN_RETRY_AFTER_S
from services.core.errors import Overloaded
from services.core.queue_status import QueueStatus, QueueView
from services.core.request import QueuedRequest
from services.runtime.logs import get_logger
from services.wire.queue import BadPayload
from services.wire.queue_status import decode_queue_status
from services.wire.subjects import BANDS, lane_of

log = get_logger(__name__)

MAX_MODELS = 1_000


class QueueWatch:
    """Views of the queues of all models."""

    def __init__(self) -> None:
        self._views: dict[str, QueueView] = {}

    async def on_message(self, message: Msg) -> None:
        """Takes a scheduler's word from the bus."""
        try:
            status = decode_queue_status(message.data)
        except BadPayload as exc:
            log.warning("queue_status.unreadable", error=exc.message)
            return
        self.hear(status)

    def hear(self, status: QueueStatus) -> None:
        """Takes a scheduler's word."""
        if status.model in self._views or len(self._views) < MAX_MODELS:
            view = self._views.setdefault(status.model, QueueView())
            view.hear(status, time.monotonic())

    def schedulers(self) -> list[str]:
        """Ids of the schedulers that spoke lately."""
        now_s = time.monotonic()
        return sorted(
            {one.scheduler_id for view in self._views.values() for one in view.statuses(now_s)}
        )

    def wait_s(self, request: QueuedRequest) -> float | None:
        """How long the request would wait for a worker; None if not known."""
        view = self._views.get(request.model)
        if view is None:
            return None
        lane = lane_of(request.request_class, request.attempt, request.tenant)
        return view.wait_s(lane, BANDS, time.monotonic())

    def check_deadline(self, request: QueuedRequest) -> None:
        """Refuses what cannot begin before its deadline, before it costs anybody anything.

        Raises:
            Overloaded: with the time after which the queue will have drained.
        """
        wait_s = self.wait_s(request)
        left_s = request.deadline_unix_ms / 1000 - time.time()
        if wait_s is not None and wait_s > left_s:
            raise Overloaded(
                f"requests of this class wait {wait_s:.1f} s for a worker;"
                f" the deadline of this one is in {max(0.0, left_s):.1f} s",
                retry_after_s=bounded(wait_s),
                reason="DEADLINE_TOO_NEAR",
            )

    def retry_after_s(self, request: QueuedRequest) -> float | None:
        """When a request like this has a chance again; None if not known."""
        wait_s = self.wait_s(request)
        return None if wait_s is None else bounded(wait_s)


def bounded(wait_s: float) -> float:
    """Whole seconds that one may tell a client to wait."""
    return float(min(MAX_RETRY_AFTER_S, max(MIN_RETRY_AFTER_S, math.ceil(wait_s))))
