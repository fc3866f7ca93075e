"""Pulls the request queue, lane by lane, no more than can run.

Pull requests are written here instead of with nats-py's fetch: fetch(n) first asks without
waiting, then waits for all n, and each call blocks its lane. Here every lane has at most one pull
open at the broker. An empty lane holds a pull for one message that lingers, so that a request on an
idle cluster arrives in one hop; then what else is there is pulled at once, without lingering.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from services.runtime.bus import Bus, QueueLimits
from services.runtime.logs import get_logger
from services.scheduler.queue_message import QueueMessage
from services.wire.subjects import BANDS, REQUESTS_STREAM, requests_consumer, requests_subject

log = get_logger(__name__)

LINGER_S = 5.0
"""A lingering pull ends after this. Short: one that the broker lost unnoticed costs no more."""

TICK_S = 0.25
"""What changes without an event, a broker's return above all, is looked for so often."""

API_TIMEOUT_S = 5.0
RETRY_S = 0.5
_STATUS_HEADER = "Status"
_ENDED = {"404", "408"}  # no messages; expired


class Sink(Protocol):
    """Who takes what is pulled."""

    def num_wanted(self) -> Mapping[str, int]:
        """Messages that may be pulled now, per lane; a lane that is missing: none."""
        ...

    def take(self, message: QueueMessage) -> None:
        """Takes a message over, to be settled some time. Called on the event loop; never blocks."""
        ...


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """How the broker treats pulled messages; see the settings of the same names."""

    ack_wait_s: float
    max_ack_pending: int


@dataclass(slots=True)
class _Lane:
    name: str
    pull_subject: str
    pull_idx: int = 0
    num_asked: int = 0
    lingers: bool = False
    expires_s: float = 0.0
    has_more: bool = True  # worth asking at once: unknown yet, or the last pull was filled


class QueueReader:
    """Reads one model's lanes for a sink; several readers, in any process, share the queue."""

    def __init__(
        self, bus: Bus, model: str, queue: QueueLimits, limits: ConsumerLimits, sink: Sink
    ) -> None:
        self._bus = bus
        self._model = model
        self._queue = queue
        self._limits = limits
        self._sink = sink
        self._inbox: str = bus.client.new_inbox()
        self._subscription: Subscription | None = None
        self._wake = asyncio.Event()
        self._is_broken = False
        self._is_stopped = False
        self._lanes = [
            _Lane(
                lane,
                f"$JS.API.CONSUMER.MSG.NEXT.{REQUESTS_STREAM}.{requests_consumer(model, lane)}",
            )
            for lane in BANDS
        ]
        self._lane_of_subject = {requests_subject(model, lane): lane for lane in BANDS}
        self.is_ready = False

    def poke(self) -> None:
        """The sink may want more than before."""
        self._wake.set()

    async def run(self) -> None:
        """Reads until cancelled or stopped. Whatever befalls the broker, it goes on afterwards."""
        while not self._is_stopped:
            try:
                await self._open()
                await self._pull()
                if not self._is_broken:
                    continue
            except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError) as exc:
                log.warning("queue.unavailable", error=repr(exc))
            finally:
                self.is_ready = False
            await asyncio.sleep(RETRY_S)

    async def stop(self) -> None:
        """Pulls no more. Messages already on their way still reach the sink."""
        self._is_stopped = True
        self.poke()
        if self._subscription is not None:
            try:
                async with asyncio.timeout(API_TIMEOUT_S):
                    await self._subscription.drain()
            except (nats.errors.Error, OSError, TimeoutError) as exc:
                log.warning("queue.unavailable", error=repr(exc))
            self._subscription = None

    async def _open(self) -> None:
        async with asyncio.timeout(API_TIMEOUT_S):
            await self._bus.ensure_requests_stream(self._queue)
            for lane in BANDS:
                name = requests_consumer(self._model, lane)
                await self._bus.jetstream.add_consumer(
                    REQUESTS_STREAM,
                    ConsumerConfig(
                        name=name,
                        durable_name=name,
                        deliver_policy=DeliverPolicy.ALL,
                        ack_policy=AckPolicy.EXPLICIT,
                        ack_wait=self._limits.ack_wait_s,
                        # Giving up is the scheduler's decision: it can say why.
                        max_deliver=-1,
                        max_ack_pending=self._limits.max_ack_pending,
                        filter_subject=requests_subject(self._model, lane),
                    ),
                )
            if self._subscription is None:
                self._subscription = await self._bus.client.subscribe(
                    f"{self._inbox}.*", cb=self._receive
                )

    async def _pull(self) -> None:
        """Keeps every lane's pull open until stopped, or the connection or a consumer breaks."""
        num_reconnects = self._bus.client.stats["reconnects"]
        self._is_broken = False
        for lane in self._lanes:
            # Pulls of before may be gone without a word.
            lane.num_asked = 0
            lane.has_more = True
        self.is_ready = True
        while not (self._is_stopped or self._is_broken):
            if self._bus.client.stats["reconnects"] != num_reconnects:
                return
            if self._bus.is_connected:
                await self._ask(self._sink.num_wanted())
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def _ask(self, num_wanted: Mapping[str, int]) -> None:
        now_s = time.monotonic()
        # Messages that more urgent lanes may yet hand over at once. A lingering pull does not
        # count: it would keep its place from the other lanes for as long as its lane is empty.
        num_reserved = 0
        for lane_idx, lane in enumerate(self._lanes):
            wanted = num_wanted.get(lane.name, 0) - num_reserved
            if lane.num_asked > 0 and now_s < lane.expires_s:
                num_reserved += 0 if lane.lingers else lane.num_asked
                continue
            if wanted <= 0:
                continue
            lane.pull_idx += 1
            lane.lingers = not lane.has_more
            if lane.has_more:
                lane.num_asked = wanted
                num_reserved += wanted
                # The answer comes at once; if it does not, it is lost.
                lane.expires_s = now_s + API_TIMEOUT_S
                pull: dict[str, object] = {"batch": wanted, "no_wait": True}
            else:
                lane.num_asked = 1
                lane.expires_s = now_s + LINGER_S + 1.0
                pull = {"batch": 1, "expires": round(LINGER_S * 1e9)}
            async with asyncio.timeout(API_TIMEOUT_S):
                await self._bus.client.publish(
                    lane.pull_subject,
                    json.dumps(pull).encode(),
                    reply=f"{self._inbox}.{lane_idx}-{lane.pull_idx}",
                )

    async def _receive(self, message: Msg) -> None:
        status = (message.headers or {}).get(_STATUS_HEADER)
        if status is not None:
            self._end_pull(message, status)
            return
        lane_name = self._lane_of_subject.get(message.subject)
        if lane_name is None:
            log.error("queue.message_misrouted", subject=message.subject)
            return
        lane = next(lane for lane in self._lanes if lane.name == lane_name)
        lane.num_asked = max(0, lane.num_asked - 1)
        if lane.num_asked == 0:
            lane.has_more = True
        self._sink.take(QueueMessage(message, lane_name))
        self.poke()

    def _end_pull(self, message: Msg, status: str) -> None:
        lane_idx, pull_idx = message.subject.rsplit(".", 1)[1].split("-")
        lane = self._lanes[int(lane_idx)]
        if int(pull_idx) != lane.pull_idx:
            return
        lane.num_asked = 0
        lane.has_more = False
        if status not in _ENDED:
            # 503: no such consumer; 409: deleted, or its leader moved. Look after all of it again.
            description = (message.headers or {}).get("Description", "")
            log.warning("queue.pull_refused", lane=lane.name, status=status, reason=description)
            self._is_broken = True
        self.poke()
