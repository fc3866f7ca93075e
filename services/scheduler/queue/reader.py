"""Pulls the request queue, lane by lane, no more than can run.

Pull requests are written here instead of with nats-py's fetch: fetch(n) first asks without
waiting, then waits for all n, and each call blocks its lane. Here every lane has at most one pull
open at the broker. An empty lane holds a pull for a few messages that lingers, so that a request on
an idle cluster arrives in one hop; when those have come, what else is there is pulled at once,
without lingering.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.runtime import faults
from services.runtime.bus import Bus, QueueLimits
from services.runtime.logs import get_logger
from services.scheduler.queue.lane_finder import LaneFinder
from services.scheduler.queue.limits import ConsumerLimits
from services.scheduler.queue.message import QueueMessage
from services.scheduler.queue.pull_plan import Demand, LaneState, plan_pulls
from services.wire.subjects import REQUESTS_STREAM, lane_of_subject, requests_consumer

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

    def demand(self) -> Demand | None:
        """What may be pulled now; None: nothing."""
        ...

    def take(self, message: QueueMessage) -> None:
        """Takes a message over, to be settled some time. Called on the event loop; never blocks."""
        ...


@dataclass(slots=True)
class _Lane(LaneState):
    """A lane with its pull: `lane_id` and `pull_idx` tell an old pull's end from that of this."""

    lane_id: str = ""
    pull_subject: str = ""
    pull_idx: int = 0
    expires_s: float = 0.0


class QueueReader:
    """Reads one model's lanes for a sink; several readers, in any process, share the queue."""

    def __init__(
        self, bus: Bus, model: str, queue: QueueLimits, limits: ConsumerLimits, sink: Sink
    ) -> None:
        self._bus = bus
        self._model = model
        self._queue = queue
        self._wake = asyncio.Event()
        self._finder = LaneFinder(bus, model, limits, self._wake.set)
        self._sink = sink
        self._inbox: str = bus.client.new_inbox()
        self._subscription: Subscription | None = None
        self._is_broken = False
        self._is_stopped = False
        self._lanes: dict[str, _Lane] = {}
        self._by_id: dict[str, _Lane] = {}
        self._num_open = 0
        self._lane_ids = itertools.count()
        self.is_ready = False

    @property
    def depths(self) -> Mapping[str, int]:
        """Messages in the stream by lane, a second ago at most; what is held is still there."""
        return self._finder.depths

    def poke(self) -> None:
        """The sink may want more than before."""
        if self._num_open < len(self._lanes):
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
        self._wake.set()
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
            if self._subscription is None:
                # Notices first: what is noticed while the lanes are listed must not get lost.
                await self._finder.subscribe()
                self._subscription = await self._bus.client.subscribe(
                    f"{self._inbox}.*", cb=self._receive
                )
        # Pulls of before may be gone without a word.
        self._lanes, self._by_id = {}, {}
        self._add(await self._finder.open())

    async def _pull(self) -> None:
        """Keeps every lane's pull open until stopped, or the connection or a consumer breaks."""
        num_reconnects = self._bus.client.stats["reconnects"]
        self._is_broken = False
        self.is_ready = True
        while not (self._is_stopped or self._is_broken):
            if self._bus.client.stats["reconnects"] != num_reconnects:
                return
            if self._bus.is_connected:
                self._add(await self._finder.news())
                self._forget_idle()
                await self._ask()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    def _add(self, names: set[str]) -> None:
        for name in names:
            consumer = requests_consumer(self._model, name)
            lane = _Lane(
                name,
                lane_id=str(next(self._lane_ids)),
                pull_subject=f"$JS.API.CONSUMER.MSG.NEXT.{REQUESTS_STREAM}.{consumer}",
            )
            self._lanes[name] = self._by_id[lane.lane_id] = lane

    def _forget_idle(self) -> None:
        busy = [lane.name for lane in self._lanes.values() if lane.has_more]
        for name in self._finder.forget_idle(busy):
            lane = self._lanes.pop(name, None)
            if lane is not None:
                del self._by_id[lane.lane_id]

    async def _ask(self) -> None:
        now_s = time.monotonic()
        self._num_open = 0
        for lane in self._lanes.values():
            if lane.num_asked and now_s >= lane.expires_s:
                lane.num_asked = 0
            self._num_open += lane.num_asked > 0
        # With a pull open for every lane there is nothing to plan.
        demand = None if self._num_open == len(self._lanes) else self._sink.demand()
        if demand is None:
            return
        for lane, num_wanted in plan_pulls(self._lanes.values(), demand):
            lane.pull_idx += 1
            lane.num_asked = num_wanted
            self._num_open += 1
            lane.lingers = not lane.has_more
            if lane.lingers:
                lane.expires_s = now_s + LINGER_S + 1.0
                pull: dict[str, object] = {"batch": num_wanted, "expires": round(LINGER_S * 1e9)}
            else:
                # The answer comes at once; if it does not, it is lost.
                lane.expires_s = now_s + API_TIMEOUT_S
                pull = {"batch": num_wanted, "no_wait": True}
            async with asyncio.timeout(API_TIMEOUT_S):
                await self._bus.client.publish(
                    lane.pull_subject,
                    json.dumps(pull).encode(),
                    reply=f"{self._inbox}.{lane.lane_id}-{lane.pull_idx}",
                )

    async def _receive(self, message: Msg) -> None:
        status = (message.headers or {}).get(_STATUS_HEADER)
        if status is not None:
            self._end_pull(message, status)
            return
        name = lane_of_subject(message.subject)
        self._finder.heard(name)
        if name not in self._lanes:
            # Forgotten a moment ago, with a pull still open.
            self._add({name})
        lane = self._lanes[name]
        self._num_open -= lane.num_asked == 1
        lane.num_asked = max(0, lane.num_asked - 1)
        if lane.num_asked == 0:
            lane.has_more = True
        await faults.pause(faults.QUEUE)
        self._sink.take(QueueMessage(message))
        self.poke()

    def _end_pull(self, message: Msg, status: str) -> None:
        lane_id, pull_idx = message.subject.rsplit(".", 1)[1].split("-")
        lane = self._by_id.get(lane_id)
        if lane is None or int(pull_idx) != lane.pull_idx:
            return
        self._num_open -= lane.num_asked > 0
        lane.num_asked = 0
        lane.has_more = False
        if status not in _ENDED:
            # 503: no such consumer; 409: deleted, or its leader moved. Look after all of it again.
            description = (message.headers or {}).get("Description", "")
            log.warning("queue.pull_refused", lane=lane.name, status=status, reason=description)
            self._is_broken = True
        self._wake.set()
