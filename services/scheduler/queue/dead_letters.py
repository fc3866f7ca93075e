"""Requests that are not tried again, into their stream."""

from __future__ import annotations

import time

import nats.errors

from services.core.dead_letter import DeadLetter, DeathReason
from services.core.errors import TokenmillError
from services.core.request import QueuedRequest
from services.runtime import names
from services.runtime.bus import Bus
from services.runtime.logs import get_logger
from services.scheduler.queue.message import QueueMessage
from services.wire.dead_letter import encode_dead_letter
from services.wire.queue import encode_refusal
from services.wire.subjects import REFUSALS, band_of_lane, dead_letter_subject

log = get_logger(__name__)


class DeadLetters:
    """Writes letters for one model. Owners hear of them too, and tell their clients."""

    def __init__(self, bus: Bus, model: str) -> None:
        self._bus = bus
        self._model = model

    async def refuse(self, request: QueuedRequest) -> None:
        """Tells the owner only: nothing is wrong with the request, it came at a bad time."""
        try:
            await self._bus.publish(REFUSALS, encode_refusal(request.request_id))
        except (nats.errors.Error, OSError) as exc:
            log.warning("refusal.lost", error=repr(exc))

    async def bury(
        self, message: QueueMessage, request: QueuedRequest | None, reason: DeathReason
    ) -> None:
        """Keeps a message that is given up. Without a broker it is only logged."""
        letter = DeadLetter(
            model=self._model,
            request_id="" if request is None else request.request_id,
            request_class=None if request is None else request.request_class,
            tenant="" if request is None else request.tenant,
            reason=reason,
            num_attempts=0 if request is None else request.attempt,
            detail=f"pulled {message.num_deliveries} times",
            died_unix_ms=int(time.time() * 1000),
            payload=message.payload,
        )
        log.error(
            "request.buried",
            reason=reason.value,
            num_attempts=letter.num_attempts,
            num_deliveries=message.num_deliveries,
            size_bytes=len(message.payload),
        )
        try:
            await self._bus.enqueue(
                dead_letter_subject(self._model, band_of_lane(message.lane)),
                encode_dead_letter(letter),
                message_id=f"{self._model}.{message.position}",
                template=names.DEAD_LETTERS_TEMPLATE,
            )
        except TokenmillError as exc:
            log.warning("dead_letter.lost", error=exc.message)
