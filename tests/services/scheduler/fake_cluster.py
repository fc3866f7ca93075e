"""A real broker, real schedulers and fake workers, for one test."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from services.core.dead_letter import DeadLetter
from services.core.request import QueuedRequest
from services.runtime import names
from services.runtime.bus import Bus, QueueLimits, connect_bus
from services.scheduler.scheduler import Scheduler
from services.scheduler.settings import SchedulerSettings
from services.wire.dead_letter import decode_dead_letter
from services.wire.queue import encode_cancel, encode_queued_request
from services.wire.subjects import (
    CANCELS,
    DEAD_LETTERS_STREAM,
    DEAD_LETTERS_WILDCARD,
    REQUESTS_STREAM,
    lane_notice_subject,
    lane_of,
    message_id,
    requests_consumer,
    requests_subject,
)
from tests.services.scheduler.fake_worker import FakeWorker
from tests.services.scheduler.requests import LANE, MODEL, queued


class FakeCluster:
    """What a test starts is stopped at its end."""

    def __init__(self, url: str, bus: Bus, stack: AsyncExitStack) -> None:
        self._url = url
        self._stack = stack
        self.bus = bus

    async def worker(self, worker_id: str = "w1", **attributes: Any) -> FakeWorker:
        worker = FakeWorker(worker_id, self.bus)
        for name, value in attributes.items():
            setattr(worker, name, value)
        await worker.start()
        self._stack.push_async_callback(worker.stop)
        return worker

    @asynccontextmanager
    async def scheduler(self, **settings: Any) -> AsyncIterator[Scheduler]:
        """A scheduler with its own connection; leaving the block without drain() is its death."""
        async with (
            connect_bus(self._url, name="scheduler") as bus,
            asyncio.TaskGroup() as tasks,
            Scheduler(bus, SchedulerSettings(model_name=MODEL, **settings), tasks) as scheduler,
        ):
            await eventually(lambda: scheduler.is_ready)
            yield scheduler

    async def start_scheduler(self, **settings: Any) -> Scheduler:
        return await self._stack.enter_async_context(self.scheduler(**settings))

    async def enqueue(self, *requests: QueuedRequest | str) -> None:
        for request in requests:
            request = queued(request) if isinstance(request, str) else request
            lane = lane_of(request.request_class, request.attempt, request.tenant)
            await self.bus.publish(lane_notice_subject(MODEL, lane), b"")
            await self.bus.enqueue(
                requests_subject(MODEL, lane),
                encode_queued_request(request),
                message_id=message_id(request.request_id, request.attempt),
                template=names.REQUESTS_TEMPLATE,
            )

    async def create_queue(self, **limits: int) -> None:
        await self.bus.ensure_requests_stream(QueueLimits(**limits))

    async def cancel(self, request_id: str) -> None:
        await self.bus.publish(CANCELS, encode_cancel(request_id))

    async def num_queued(self) -> int:
        """Messages in the queue, pulled or not."""
        return (await self.bus.jetstream.stream_info(REQUESTS_STREAM)).state.messages

    async def dead_letter(self) -> DeadLetter:
        """The first letter that is kept."""
        kept = await self.bus.jetstream.get_msg(
            DEAD_LETTERS_STREAM, seq=1, subject=DEAD_LETTERS_WILDCARD, next=True
        )
        assert kept.data is not None
        return decode_dead_letter(kept.data)

    async def num_redelivered(self, lane: str = LANE) -> int:
        info = await self.bus.jetstream.consumer_info(
            REQUESTS_STREAM, requests_consumer(MODEL, lane)
        )
        return info.num_redelivered or 0

    async def queue_empty(self) -> None:
        await self.queue_holds(0)

    async def queue_holds(self, num_messages: int) -> None:
        """Waits until so many messages are in the queue."""

        async def holds() -> bool:
            return await self.num_queued() == num_messages

        await eventually(holds)


@asynccontextmanager
async def fake_cluster(url: str) -> AsyncIterator[FakeCluster]:
    async with connect_bus(url, name="test") as bus, AsyncExitStack() as stack:
        yield FakeCluster(url, bus, stack)


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Returns when the condition holds; fails after 20 s."""
    async with asyncio.timeout(20):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(0.005)
