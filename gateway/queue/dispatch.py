"""Attempts into the queue, and word to whoever holds a request that nobody waits for."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from opentelemetry import context as otel_context

from gateway.requests.live_request import LiveRequest
from services.core.dead_letter import DeadLetter, DeathReason
from services.core.delivery import Cancel
from services.core.errors import DependencyLost, Overloaded, TokenmillError
from services.core.request import QueuedRequest
from services.runtime import names
from services.runtime.logs import bind_request, get_logger
from services.runtime.telemetry import context_of
from services.wire.dead_letter import encode_dead_letter
from services.wire.queue import encode_cancel, encode_queued_request
from services.wire.subjects import (
    CANCELS,
    RESUME_BAND,
    dead_letter_subject,
    lane_notice_subject,
    lane_of,
    message_id,
    requests_subject,
)

log = get_logger(__name__)

MIN_PAUSE_S = 0.05
MAX_PAUSE_S = 1.0

LANE_NOTICE_S = 15.0
"""A lane in use is made known so often; a scheduler forgets one of which it hears nothing for four
times as long."""


class RequestBus(Protocol):
    """What the dispatcher needs of services.runtime.bus.Bus."""

    async def publish(self, subject: str, payload: bytes) -> None:
        """Best effort."""
        ...

    async def enqueue(
        self, subject: str, payload: bytes, *, message_id: str, template: str
    ) -> None:
        """Returns when the message is kept.

        Raises:
            Overloaded: the queue is full.
            DependencyLost: no answer.
        """
        ...


class Dispatcher:
    """Publishes attempts and cancels.

    Args:
        bus: where to.
        tasks: for work that nobody waits for; each task ends by itself once its request is over.
    """

    def __init__(self, bus: RequestBus, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._tasks = tasks
        self._noticed_s: dict[tuple[str, str], float] = {}

    async def publish(self, request: QueuedRequest) -> None:
        """Queues an attempt; a second publish of the same attempt is dropped by the queue.

        Raises:
            Overloaded: the queue is full.
            DependencyLost: the broker does not answer.
        """
        lane = lane_of(request.request_class, request.attempt, request.tenant)
        await self._notice(request.model, lane)
        await self._bus.enqueue(
            requests_subject(request.model, lane),
            encode_queued_request(request),
            message_id=message_id(request.request_id, request.attempt),
            template=names.REQUESTS_TEMPLATE,
        )

    def publish_later(self, live: LiveRequest, request: QueuedRequest) -> None:
        """Queues a later attempt, however long the broker is away, until the request is over."""
        self._tasks.create_task(self._publish_until_kept(live, request))

    def bury_later(self, live: LiveRequest) -> None:
        """Keeps a request that killed workers as a dead letter."""
        self._tasks.create_task(self._bury(live.request, live.error))

    def stop(self, live: LiveRequest) -> None:
        """Tells the worker or, while it waits, the schedulers that nobody waits. Twice is safe."""
        if live.is_settled:
            return
        live.is_settled = True
        attachment, live.attachment = live.attachment, None
        if attachment is not None:
            attachment.link.send(Cancel(attachment.handle))
        else:
            self._tasks.create_task(self._publish_cancel(live.request.request_id))

    async def _notice(self, model: str, lane: str) -> None:
        """Best effort: schedulers look for lanes by themselves too, only not at once."""
        now_s = time.monotonic()
        if lane == RESUME_BAND or now_s < self._noticed_s.get((model, lane), 0.0) + LANE_NOTICE_S:
            return
        self._noticed_s[model, lane] = now_s
        try:
            await self._bus.publish(lane_notice_subject(model, lane), b"")
        except Exception as exc:
            log.warning("lane.notice_lost", lane=lane, error=repr(exc))

    async def _publish_until_kept(self, live: LiveRequest, request: QueuedRequest) -> None:
        # The task was born in the stream of the lost worker, which is not part of this trace.
        otel_context.attach(context_of(live.trace))
        bind_request(request.request_id)
        pause_s = MIN_PAUSE_S
        while not live.is_over and not live.is_settled:
            try:
                await self.publish(request)
            except (DependencyLost, Overloaded) as exc:
                log.warning("attempt.not_queued", attempt=request.attempt, reason=exc.reason)
                await asyncio.sleep(pause_s)
                pause_s = min(MAX_PAUSE_S, 2 * pause_s)
            else:
                log.info("attempt.queued", attempt=request.attempt, num_tokens=len(live.token_ids))
                return

    async def _bury(self, request: QueuedRequest, error: TokenmillError | None) -> None:
        payload = encode_queued_request(request)
        letter = DeadLetter(
            model=request.model,
            request_id=request.request_id,
            request_class=request.request_class,
            tenant=request.tenant,
            reason=DeathReason.KILLED_WORKERS,
            num_attempts=request.attempt,
            detail="" if error is None else error.message,
            died_unix_ms=int(time.time() * 1000),
            payload=payload,
        )
        log.error(
            "request.buried",
            request_id=request.request_id,
            reason=letter.reason.value,
            num_attempts=request.attempt,
            size_bytes=len(payload),
        )
        try:
            await self._bus.enqueue(
                dead_letter_subject(request.model, request.request_class.value),
                encode_dead_letter(letter),
                message_id=f"dead.{request.request_id}",
                template=names.DEAD_LETTERS_TEMPLATE,
            )
        except (DependencyLost, Overloaded) as exc:
            log.warning("dead_letter.lost", request_id=request.request_id, error=exc.message)

    async def _publish_cancel(self, request_id: str) -> None:
        try:
            await self._bus.publish(CANCELS, encode_cancel(request_id))
        except Exception as exc:
            # Best effort: an attach of this request is answered with Gone anyway.
            log.warning("cancel.not_published", request_id=request_id, error=repr(exc))
