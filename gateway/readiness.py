"""Whether this gateway should be given requests, and why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.access.key_ring import KeyRing
from gateway.catalog import Catalog
from gateway.intake import Intake
from services.runtime.logs import get_logger
from services.runtime.rpc_server import RpcServer

log = get_logger(__name__)

READINESS_INTERVAL_S = 0.1


class Readiness:
    """Asks those who know; keeps no state but whether the queue was made sure of.

    Attributes:
        has_queue: the request stream stands.
    """

    def __init__(
        self,
        catalog: Catalog,
        intake: Intake,
        is_bus_connected: Callable[[], bool],
        ring: KeyRing | None = None,
    ) -> None:
        self.has_queue = False
        self._catalog = catalog
        self._intake = intake
        self._is_bus_connected = is_bus_connected
        self._ring = ring

    def neighbours(self) -> dict[str, bool]:
        """Whether each process that every request needs can be reached."""
        return {"broker": self._is_bus_connected(), "tokenizer": bool(self._catalog.models)}

    def reasons_against(self) -> list[str]:
        """Why not; empty when ready."""
        reasons = []
        if self._intake.is_draining:
            reasons.append("the gateway is shutting down")
        if not self._catalog.models:
            reasons.append("the tokenizer is not loaded")
        if not self._is_bus_connected():
            reasons.append("the broker is not connected")
        if not self.has_queue:
            reasons.append("the request queue is not set up")
        if self._ring is not None and not self._ring.is_loaded:
            reasons.append("the API keys are not loaded")
        return reasons


async def follow_readiness(rpc: RpcServer, readiness: Readiness) -> None:
    """Lets the gRPC health service say what `reasons_against` says, for ever."""
    was_ready: bool | None = None
    while True:
        reasons = readiness.reasons_against()
        if (not reasons) != was_ready:
            was_ready = not reasons
            await rpc.set_ready(was_ready)
            log.info("readiness.changed", is_ready=was_ready, reasons=reasons)
        await asyncio.sleep(READINESS_INTERVAL_S)
