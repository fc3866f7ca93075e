"""Tells gateways, people and autoscalers how the queue stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import nats.errors

from services.core.queue_status import QueueStatus
from services.runtime.bus import Bus
from services.runtime.logs import get_logger
from services.scheduler.metrics import (
    DESIRED_WORKERS,
    QUEUE_DEPTH,
    QUEUE_DRAIN_RATE,
    REQUESTS_HELD,
    WORKERS_READY,
)
from services.wire.queue_status import encode_queue_status
from services.wire.subjects import BANDS, band_of_lane, queue_status_subject

log = get_logger(__name__)

INTERVAL_S = 1.0


class StatusReporter:
    """Publishes and exports what `status` says, for ever."""

    def __init__(self, bus: Bus, status: Callable[[], QueueStatus]) -> None:
        self._bus = bus
        self._status = status

    async def run(self) -> None:
        """Once per interval, until cancelled."""
        while True:
            status = self._status()
            _export(status)
            try:
                await self._bus.publish(
                    queue_status_subject(status.model), encode_queue_status(status)
                )
            except (nats.errors.Error, OSError) as exc:
                log.warning("queue_status.lost", error=repr(exc))
            await asyncio.sleep(INTERVAL_S)


def _export(status: QueueStatus) -> None:
    depths = dict.fromkeys(BANDS, 0)
    for lane, depth in status.depths.items():
        depths[band_of_lane(lane)] += depth
    for band, part in status.bands.items():
        QUEUE_DEPTH.labels(status.model, band).set(depths[band])
        QUEUE_DRAIN_RATE.labels(status.model, band).set(part.num_per_s)
    REQUESTS_HELD.labels(status.model).set(sum(part.num_held for part in status.bands.values()))
    DESIRED_WORKERS.labels(status.model).set(status.desired_workers)
    WORKERS_READY.labels(status.model).set(status.num_workers)
