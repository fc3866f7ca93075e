"""The worker's K/V events, to all schedulers."""

from __future__ import annotations

import asyncio

import nats.errors

from services.runtime.logs import get_logger
from services.wire.kv_events import encode_kv_event
from services.wire.subjects import kv_events_subject
from worker.reports.heartbeat import Publisher
from worker.reports.kv_events import KvEventLog

log = get_logger(__name__)

MIN_GAP_S = 0.02
"""Changes closer together go out as one event."""


class KvPublisher:
    """Tells of what changed, soon after a poke."""

    def __init__(
        self, log: KvEventLog, publisher: Publisher, *, model: str, worker_id: str
    ) -> None:
        self._log = log
        self._publisher = publisher
        self._subject = kv_events_subject(model, worker_id)
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Something may have changed. On the event loop; costs nothing."""
        self._poked.set()

    async def run(self) -> None:
        """Publishes for ever."""
        while True:
            await self._poked.wait()
            self._poked.clear()
            while (event := self._log.take()) is not None:
                try:
                    await self._publisher.publish(self._subject, encode_kv_event(event))
                except (nats.errors.Error, OSError) as exc:
                    # Schedulers see the gap, and ask for the list.
                    log.warning("kv_event.lost", event_idx=event.event_idx, error=repr(exc))
            await asyncio.sleep(MIN_GAP_S)
