"""What this scheduler holds of the queue, from pull to settlement."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from opentelemetry import context as otel_context

from services.core.blocks import BlockHash
from services.core.dead_letter import DeathReason
from services.core.errors import InvalidRequest
from services.core.queue_status import BandStatus
from services.core.rate import EventRate
from services.core.request import QueuedRequest, SubmissionOutcome
from services.runtime import names
from services.runtime.bus import mark_failed, processing
from services.runtime.logs import bind_request, get_logger
from services.runtime.metrics import exemplar
from services.scheduler.metrics import QUEUE_WAIT, SETTLED
from services.scheduler.order import HeldRequest, RequestKey
from services.scheduler.queue.dead_letters import DeadLetters
from services.scheduler.queue.hold import Hold, Settlement, Spawn, Word
from services.scheduler.queue.message import QueueMessage
from services.scheduler.recent import Recent
from services.wire.queue import decode_queued_request
from services.wire.subjects import BANDS

log = get_logger(__name__)

NUM_REMEMBERED = 10_000
"""Request ids kept of cancels and of settled messages: more than come in within one ack_wait."""

BOUNCE_S = 0.1


class Holdings:
    """Holds messages, each under a consumer span of its own that ends when it is settled.

    Args:
        max_deliveries: one that was pulled more often is given up.
        spawn: runs the holds beside each other.
        on_change: called when there may be something to place.
        on_room: called when less is held than before.
        hashes_of: names of a prompt's blocks.
        letters: where those that are given up go.
    """

    def __init__(
        self,
        *,
        max_deliveries: int,
        spawn: Spawn,
        on_change: Callable[[], None],
        on_room: Callable[[], None],
        hashes_of: Callable[[QueuedRequest], tuple[BlockHash, ...]],
        letters: DeadLetters,
    ) -> None:
        self._letters = letters
        self._rates = {band: EventRate() for band in BANDS}
        self._hashes_of = hashes_of
        self._max_deliveries = max_deliveries
        self._spawn = spawn
        self._on_change = on_change
        self._on_room = on_room
        self._holds: dict[RequestKey, Hold] = {}
        self._cancelled: Recent[str] = Recent(NUM_REMEMBERED)
        self._done: Recent[RequestKey] = Recent(NUM_REMEMBERED)
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._holds)

    def take(self, message: QueueMessage) -> None:
        """Takes a pulled message over. What needs no worker is settled at once."""
        try:
            request = decode_queued_request(message.payload)
        except InvalidRequest as exc:
            self._spawn(self._give_up_unreadable(message, exc))
            return
        key = (request.request_id, request.attempt)
        if key in self._done:
            # The broker did not hear the settlement. Not again: it would cost a prefill.
            self._spawn(_say(message, Settlement(Word.ACK, "settled")))
            return
        hold = self._holds.get(key)
        if hold is not None and not hold.settled.done():
            hold.message = message
            return
        if hold is not None:
            # The hold before has given it back and is not quite gone yet.
            self._spawn(_say(message, Settlement(Word.NAK, "given_back", BOUNCE_S)))
            return
        entry = HeldRequest(
            request,
            message.lane,
            message.position,
            time.monotonic(),
            block_hashes=self._hashes_of(request),
        )
        hold = Hold(entry, message, asyncio.get_running_loop().create_future())
        self._holds[key] = hold
        self._empty.clear()
        if request.request_id in self._cancelled:
            self.settle(key, Settlement(Word.ACK, "cancelled"))
        elif message.num_deliveries > self._max_deliveries:
            death = DeathReason.UNDELIVERABLE
            self.settle(key, Settlement(Word.TERM, "undeliverable", death=death))
        self._spawn(self._hold(hold))

    def waiting(self) -> list[HeldRequest]:
        """Requests that a worker is to be found for."""
        return [
            hold.entry
            for hold in self._holds.values()
            if hold.context is not None and not hold.is_submitted and not hold.settled.done()
        ]

    def bands(self, now_s: float) -> Mapping[str, BandStatus]:
        """What is held of each band, and how fast it goes out to workers."""
        held = Counter(hold.entry.band for hold in self._holds.values())
        return {
            band: BandStatus(rate.per_s(now_s), held[band]) for band, rate in self._rates.items()
        }

    def num_waiting(self) -> Mapping[str, int]:
        """How many wait for a worker, per lane; counts from the moment of take()."""
        return Counter(hold.entry.lane for hold in self._holds.values() if not hold.is_submitted)

    def claim(self, key: RequestKey) -> Hold:
        """Marks a waiting request as being submitted."""
        hold = self._holds[key]
        hold.is_submitted = True
        if not hold.was_submitted:
            hold.was_submitted = True
            wait_ms = max(0.0, (time.time() - hold.message.published_s) * 1000)
            hold.span.set_attribute(names.QUEUE_WAIT_MS, round(wait_ms, 3))
            QUEUE_WAIT.labels(hold.entry.request.model, hold.entry.band).observe(
                wait_ms / 1000, exemplar(hold.span)
            )
        return hold

    def release(self, key: RequestKey, *, failed: bool) -> None:
        """A submission came to nothing: the request waits again, in its old place."""
        hold = self._holds[key]
        hold.is_submitted = False
        if failed:
            hold.entry = replace(hold.entry, num_failures=hold.entry.num_failures + 1)
        if hold.entry.request.request_id in self._cancelled:
            self.settle(key, Settlement(Word.ACK, "cancelled"))
        self._on_change()

    def settle(self, key: RequestKey, settlement: Settlement) -> None:
        """Ends a hold; a second settlement is ignored."""
        hold = self._holds[key]
        if not hold.settled.done():
            hold.settled.set_result(settlement)
            if settlement.word is not Word.NAK:
                self._done.add(key)

    def cancel(self, request_id: str) -> None:
        """Nobody waits for this request: drops it now if it waits, or when it comes.

        One that is being submitted is left to its owner, which answers the worker Gone.
        """
        self._cancelled.add(request_id)
        for key, hold in self._holds.items():
            if key[0] == request_id and not hold.is_submitted:
                self.settle(key, Settlement(Word.ACK, "cancelled"))

    def give_back(self) -> None:
        """Hands all waiting requests to the other schedulers, at once."""
        for key, hold in self._holds.items():
            if not hold.is_submitted:
                self.settle(key, Settlement(Word.NAK, "given_back"))

    async def keep(self, interval_s: float) -> None:
        """Tells the broker, for ever, that what is held is still held."""
        while True:
            await asyncio.sleep(interval_s)
            for hold in list(self._holds.values()):
                if not hold.settled.done() and not await hold.message.keep():
                    # One that cannot be told of now is told of next time.
                    break

    async def wait_empty(self) -> None:
        """Returns when nothing is held."""
        await self._empty.wait()

    async def _hold(self, hold: Hold) -> None:
        entry, message = hold.entry, hold.message
        try:
            with processing(
                message.headers,
                subject=message.subject,
                template=names.REQUESTS_TEMPLATE,
                group=message.consumer,
            ) as span:
                span.set_attribute(names.REQUEST_ID, entry.request.request_id)
                span.set_attribute(names.ATTEMPT, entry.request.attempt)
                span.set_attribute(names.REQUEST_CLASS, entry.request.request_class.value)
                bind_request(entry.request.request_id)
                hold.span = span
                hold.context = otel_context.get_current()
                self._on_change()
                settlement = await hold.settled
                span.set_attribute(names.OUTCOME, settlement.outcome)
                SETTLED.labels(entry.request.model, settlement.outcome).inc()
                if settlement.outcome == SubmissionOutcome.ACCEPTED.value:
                    self._rates[entry.band].add(time.monotonic())
                if settlement.death is not None:
                    await self._letters.bury(hold.message, entry.request, settlement.death)
                if settlement.is_refused:
                    await self._letters.refuse(entry.request)
                await _say(hold.message, settlement)
                # That of a placed request was said when it was placed: a line costs as much as a
                # placement, and there would be two for each request.
                is_said = settlement.outcome == SubmissionOutcome.ACCEPTED.value
                log.log(
                    logging.DEBUG if is_said else logging.INFO,
                    "request.settled",
                    word=settlement.word.value,
                    outcome=settlement.outcome,
                    num_deliveries=hold.message.num_deliveries,
                )
        finally:
            self._holds.pop(entry.key, None)
            if not self._holds:
                self._empty.set()
            self._on_room()

    async def _give_up_unreadable(self, message: QueueMessage, exc: InvalidRequest) -> None:
        with processing(
            message.headers,
            subject=message.subject,
            template=names.REQUESTS_TEMPLATE,
            group=message.consumer,
        ) as span:
            mark_failed(span, exc)
            log.error("queue.message_unreadable", subject=message.subject, error=exc.message)
            await self._letters.bury(message, None, DeathReason.UNREADABLE)
            await message.term()


async def _say(message: QueueMessage, settlement: Settlement) -> None:
    match settlement.word:
        case Word.ACK:
            await message.ack()
        case Word.NAK:
            await message.nak(settlement.delay_s)
        case Word.TERM:
            await message.term()
