"""Workers' heartbeats off the bus."""

from __future__ import annotations

import asyncio
import contextlib

from nats.aio.msg import Msg

from gateway.live_view.snapshot import LiveView
from services.runtime.bus import Bus
from services.wire.subjects import HEARTBEATS_WILDCARD


async def follow_heartbeats(bus: Bus, view: LiveView) -> None:
    """Hears all workers until cancelled; the client subscribes again after a lost connection."""

    async def hear(message: Msg) -> None:
        view.hear(message.data)

    subscription = await bus.client.subscribe(HEARTBEATS_WILDCARD, cb=hear)
    try:
        await asyncio.Event().wait()
    finally:
        # At the end the connection may be gone before us.
        with contextlib.suppress(Exception):
            await subscription.unsubscribe()
