"""Tells clients that their request was given up by a scheduler."""

from __future__ import annotations

from nats.aio.msg import Msg

from gateway.requests.live_requests import LiveRequests
from services.core.dead_letter import DeadLetter, DeathReason
from services.core.errors import TokenmillError
from services.runtime.logs import get_logger
from services.wire.dead_letter import decode_dead_letter
from services.wire.queue import BadPayload

log = get_logger(__name__)

_WHY = {
    DeathReason.KILLED_WORKERS: "workers were lost before it brought a token",
    DeathReason.FAILED_SUBMISSIONS: "every worker that was given it failed",
    DeathReason.UNDELIVERABLE: "it was taken from the queue too often without success",
    DeathReason.UNREADABLE: "it cannot be read",
}


class DeadLetterWatch:
    """Ends live requests of which a dead letter tells."""

    def __init__(self, live_requests: LiveRequests) -> None:
        self._live = live_requests

    async def on_message(self, message: Msg) -> None:
        """Takes a letter from the bus; one of another gateway's requests is ignored."""
        try:
            letter = decode_dead_letter(message.data)
        except BadPayload as exc:
            log.warning("dead_letter.unreadable", error=exc.message)
            return
        self.take(letter)

    def take(self, letter: DeadLetter) -> None:
        """Ends the request, unless an attempt of it runs."""
        live = self._live.get(letter.request_id)
        if live is None or live.attachment is not None:
            return
        live.fail(
            TokenmillError(
                f"the request was given up after {letter.num_attempts} attempts:"
                f" {_WHY[letter.reason]}",
                reason=letter.reason.value.upper(),
            )
        )
