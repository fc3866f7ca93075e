"""Which lanes of a model's queue are in use, and their consumers at the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from services.runtime.bus import Bus
from services.scheduler.queue.limits import ConsumerLimits
from services.wire.subjects import (
    REQUESTS_STREAM,
    RESUME_BAND,
    lane_notices_of,
    lane_of_subject,
    requests_consumer,
    requests_of,
    requests_subject,
)

API_TIMEOUT_S = 5.0
LOOK_S = 1.0
"""The stream itself is asked so often: notices may get lost, and it knows how much waits."""

FORGET_S = 60.0
"""A lane that had neither message nor notice for so long is not pulled any more. Gateways give
notice several times in that time."""

CONSUMER_IDLE_S = 300.0
"""The broker drops a consumer that nobody pulled for so long. It bounds their number."""

_NUM_AT_ONCE = 16


class LaneFinder:
    """Keeps the set of lanes, each with a consumer that all schedulers of the model share.

    The resume lane is always there. Others come with a gateway's notice, or are found in the stream
    or among the consumers that other schedulers, or this one before a restart, have made.

    Args:
        on_news: called when `news` has something to say.

    Attributes:
        depths: messages in the stream by lane, at the last look; what is held is still there.
    """

    def __init__(
        self, bus: Bus, model: str, limits: ConsumerLimits, on_news: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._model = model
        self._limits = limits
        self._heard_s: dict[str, float] = {}
        self._fresh: set[str] = set()
        self._look_due_s = 0.0
        self._on_news = on_news
        self.depths: Mapping[str, int] = {}

    async def subscribe(self) -> None:
        """Hears notices from now on. Once."""
        await self._bus.client.subscribe(lane_notices_of(self._model), cb=self._hear)

    async def open(self) -> set[str]:
        """All lanes, each with its consumer made or made anew; to be called at every new start."""
        lanes = {RESUME_BAND} | await self._of_consumers() | await self._of_stream()
        await self._make_consumers(lanes | self._heard_s.keys())
        for lane in lanes:
            self.heard(lane)
        self._fresh.clear()
        return set(self._heard_s)

    async def news(self) -> set[str]:
        """Lanes that are new since the last call, with their consumers made."""
        now_s = time.monotonic()
        if now_s >= self._look_due_s:
            self._fresh |= await self._of_stream() - self._heard_s.keys()
            self._look_due_s = now_s + LOOK_S
        fresh, self._fresh = self._fresh, set()
        await self._make_consumers(fresh)
        for lane in fresh:
            self.heard(lane)
        return fresh

    def heard(self, lane: str) -> None:
        """The lane is in use."""
        self._heard_s[lane] = time.monotonic()

    def forget_idle(self, busy: Iterable[str]) -> set[str]:
        """Forgets and returns lanes of which nothing was heard for long, except busy ones."""
        due_s = time.monotonic() - FORGET_S
        kept = {RESUME_BAND, *busy}
        idle = {lane for lane, heard_s in self._heard_s.items() if heard_s < due_s} - kept
        for lane in idle:
            del self._heard_s[lane]
        return idle

    async def _hear(self, message: Msg) -> None:
        lane = lane_of_subject(message.subject)
        if lane in self._heard_s:
            self.heard(lane)
        else:
            self._fresh.add(lane)
            self._on_news()

    async def _of_stream(self) -> set[str]:
        info = await self._bus.jetstream.stream_info(
            REQUESTS_STREAM, subjects_filter=requests_of(self._model)
        )
        self.depths = {
            lane_of_subject(subject): count
            for subject, count in (info.state.subjects or {}).items()
        }
        return set(self.depths)

    async def _of_consumers(self) -> set[str]:
        found: set[str] = set()
        own = requests_subject(self._model, "")
        offset = 0
        while page := await self._bus.jetstream.consumers_info(REQUESTS_STREAM, offset=offset):
            for info in page:
                subject = info.config.filter_subject or ""
                if subject.startswith(own):
                    found.add(lane_of_subject(subject))
            offset += len(page)
        return found

    async def _make_consumers(self, lanes: Iterable[str]) -> None:
        left = list(lanes)
        while left:
            some, left = left[:_NUM_AT_ONCE], left[_NUM_AT_ONCE:]
            async with asyncio.timeout(API_TIMEOUT_S):
                await asyncio.gather(*(self._make_consumer(lane) for lane in some))

    async def _make_consumer(self, lane: str) -> None:
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
                inactive_threshold=CONSUMER_IDLE_S,
            ),
        )
