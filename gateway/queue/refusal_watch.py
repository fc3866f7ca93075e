"""Tells clients that no worker could have begun their request in time."""

from __future__ import annotations

from nats.aio.msg import Msg

from gateway.queue.drain_rate import UNKNOWN_RETRY_AFTER_S
from gateway.queue.queue_watch import QueueWatch
from gateway.requests.live_requests import LiveRequests
from services.core.errors import Overloaded
from services.runtime.logs import get_logger
from services.wire.queue import BadPayload, decode_refusal

log = get_logger(__name__)


class RefusalWatch:
    """Ends live requests that a scheduler refused: now, not at their deadlines."""

    def __init__(self, live_requests: LiveRequests, queue: QueueWatch) -> None:
        self._live = live_requests
        self._queue = queue

    async def on_message(self, message: Msg) -> None:
        """Takes a scheduler's word from the bus; another gateway's requests are ignored."""
        try:
            request_id = decode_refusal(message.data)
        except BadPayload as exc:
            log.warning("refusal.unreadable", error=exc.message)
            return
        live = self._live.get(request_id)
        if live is None or live.attachment is not None:
            return
        live.fail(
            Overloaded(
                "no worker could begin this request before its deadline",
                retry_after_s=self._queue.retry_after_s(live.request) or UNKNOWN_RETRY_AFTER_S,
                reason="DEADLINE_TOO_NEAR",
            )
        )
