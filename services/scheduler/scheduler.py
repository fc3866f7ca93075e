"""The scheduler as a whole: queue, heartbeats and cancels in, submissions out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.core.queue_status import QueueStatus
from services.runtime.bus import Bus
from services.runtime.logs import get_logger
from services.runtime.naming_watch import NamingWatch, naming_bucket
from services.scheduler.dispatcher import Dispatcher, DispatchLimits
from services.scheduler.fleet.fleet import Fleet
from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.fleet.kv_tracker import KvTracker
from services.scheduler.fleet.peers import Peers
from services.scheduler.fleet.worker_client import WorkerClient
from services.scheduler.policies.registry import make_policy
from services.scheduler.queue.dead_letters import DeadLetters
from services.scheduler.queue.limits import ConsumerLimits
from services.scheduler.queue.reader import QueueReader
from services.scheduler.settings import SchedulerSettings
from services.scheduler.status_reporter import StatusReporter
from services.wire.heartbeat import decode_heartbeat
from services.wire.kv_events import decode_kv_event
from services.wire.queue import BadPayload, decode_cancel
from services.wire.queue_status import decode_queue_status
from services.wire.subjects import CANCELS, heartbeats_of, kv_events_of, queue_status_subject

log = get_logger(__name__)

KEEPS_PER_ACK_WAIT = 3
SUBSCRIBE_TIMEOUT_S = 5.0


class Scheduler:
    """Runs inside `async with`; call drain before leaving it, else held messages come again late.

    Args:
        tasks: the process's task group.
    """

    def __init__(self, bus: Bus, settings: SchedulerSettings, tasks: asyncio.TaskGroup) -> None:
        self._bus = bus
        self._settings = settings
        self._group = tasks
        self._tasks: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self._client = WorkerClient()
        index = KvIndex(settings.kv_index_blocks)
        self._kv = KvTracker(index, self._client, self._spawn)
        self._fleet = Fleet(settings.heartbeat_timeout_s, salt=settings.instance_id)
        self._peers = Peers(settings.instance_id)
        self._dispatcher = Dispatcher(
            self._fleet,
            self._client,
            DispatchLimits(
                batch=settings.batch_limits(),
                fairness=settings.fairness_rules(),
                num_look_ahead=settings.num_look_ahead,
                max_held=settings.max_held,
                submit_timeout_s=settings.submit_timeout_s,
                owner_retry_s=settings.owner_retry_s,
                max_deliveries=settings.max_deliveries,
                max_failures=settings.max_failures,
            ),
            spawn=self._spawn,
            on_room=self._on_room,
            policy=make_policy(settings.placement_policy, index),
            kv=self._kv,
            letters=DeadLetters(bus, settings.model_name),
        )
        self._reader = QueueReader(
            bus,
            settings.model_name,
            settings.queue_limits(),
            ConsumerLimits(settings.ack_wait_s, settings.max_ack_pending),
            self._dispatcher,
        )

    @property
    def is_ready(self) -> bool:
        """Whether the queue can be read now."""
        return self._bus.is_connected and self._reader.is_ready

    @property
    def num_held(self) -> int:
        """Messages pulled and not settled."""
        return len(self._dispatcher.holdings)

    @property
    def has_workers(self) -> bool:
        """Whether any worker may be given requests now."""
        return self._dispatcher.has_workers

    async def drain(self, timeout_s: float) -> None:
        """Stops pulling, gives back what waits, lets submissions finish."""
        await self._reader.stop()
        await self._dispatcher.drain(timeout_s)

    async def __aenter__(self) -> Scheduler:
        self._stack.push_async_callback(self._client.close)
        for subject, callback in (
            (heartbeats_of(self._settings.model_name), self._hear),
            (kv_events_of(self._settings.model_name), self._hear_kv),
            (CANCELS, self._cancel),
            (queue_status_subject(self._settings.model_name), self._hear_peer),
        ):
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                subscription = await self._bus.client.subscribe(subject, cb=callback)
            self._stack.push_async_callback(_unsubscribe, subscription)
        self._spawn(self._dispatcher.run())
        self._spawn(self._dispatcher.holdings.keep(self._settings.ack_wait_s / KEEPS_PER_ACK_WAIT))
        self._spawn(self._reader.run())
        self._spawn(StatusReporter(self._bus, self._status).run())
        naming = naming_bucket(self._bus, self._settings.queue_num_replicas)
        watch = NamingWatch(naming, self._settings.model_name, self._kv.name_by)
        self._spawn(watch.follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stack.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _status(self) -> QueueStatus:
        depths = self._reader.depths
        return QueueStatus(
            model=self._settings.model_name,
            scheduler_id=self._settings.instance_id,
            bands=self._dispatcher.holdings.bands(time.monotonic()),
            depths=depths,
            num_workers=self._dispatcher.num_ready_workers(),
            desired_workers=self._dispatcher.desired_workers(sum(depths.values())),
        )

    def _on_room(self) -> None:
        self._reader.poke()

    async def _hear(self, message: Msg) -> None:
        try:
            heartbeat = decode_heartbeat(message.data)
        except BadPayload as exc:
            log.warning("worker.heartbeat_unreadable", subject=message.subject, error=exc.message)
            return
        self._dispatcher.hear(heartbeat)

    async def _hear_kv(self, message: Msg) -> None:
        try:
            event = decode_kv_event(message.data)
        except BadPayload as exc:
            log.warning("worker.kv_event_unreadable", subject=message.subject, error=exc.message)
            return
        self._kv.on_event(event)

    async def _hear_peer(self, message: Msg) -> None:
        try:
            status = decode_queue_status(message.data)
        except BadPayload as exc:
            log.warning("queue_status.unreadable", error=exc.message)
            return
        self._peers.hear(status.scheduler_id, time.monotonic())
        self._fleet.set_foreign(self._peers.foreign(self._fleet.worker_ids))

    async def _cancel(self, message: Msg) -> None:
        try:
            request_id = decode_cancel(message.data)
        except BadPayload as exc:
            log.warning("request.cancel_unreadable", error=exc.message)
            return
        self._dispatcher.holdings.cancel(request_id)


async def _unsubscribe(subscription: Subscription) -> None:
    try:
        await subscription.unsubscribe()
    except (nats.errors.Error, OSError) as exc:
        log.debug("bus.unsubscribe_failed", error=repr(exc))
