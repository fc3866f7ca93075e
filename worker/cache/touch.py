"""Tells the cache service of blocks in use that nobody has to fetch, behind everything else."""

from __future__ import annotations

import asyncio

from services.core.errors import TokenmillError
from services.runtime.logs import get_logger
from services.wire.cache import BlockQuery
from worker.cache.client import CachePort
from worker.delivery.circuit_breaker import CircuitBreaker

log = get_logger(__name__)

MAX_TOUCHES = 64


class CacheTouches:
    """Lookups whose answer nobody waits for.

    A chat whose worker holds all of it asks the service for nothing, and its blocks there would age
    as if nobody wanted them: the next worker would find them gone. Bounded; what comes beyond is
    dropped, since a later turn touches the same blocks.
    """

    def __init__(self, client: CachePort, breaker: CircuitBreaker, *, timeout_s: float) -> None:
        self._client = client
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._running: set[asyncio.Task[None]] = set()

    def touch(self, chain: BlockQuery) -> None:
        """Returns at once.

        Args:
            chain: all of it held here.
        """
        if not chain.hashes or self._breaker.is_open or len(self._running) >= MAX_TOUCHES:
            return
        task = asyncio.create_task(self._touch(chain), name="cache-touch")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _touch(self, chain: BlockQuery) -> None:
        try:
            await self._client.lookup(chain, timeout_s=self._timeout_s)
        except TokenmillError as exc:
            log.debug("cache.touch_failed", fault=exc.message)
