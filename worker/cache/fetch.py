"""Brings a prompt's missing blocks from the cache service into the engine, if that is quick."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from opentelemetry import trace
from opentelemetry.context import Context

from services.core.blocks import BlockHash, BlockPayload
from services.core.errors import TokenmillError
from services.core.request import QueuedRequest
from services.runtime import names
from services.runtime.logs import get_logger
from services.runtime.telemetry import tracer
from services.wire.cache import BlockQuery
from worker.cache.block_check import check_blocks
from worker.cache.client import CachePort
from worker.cache.touch import CacheTouches
from worker.delivery.circuit_breaker import CircuitBreaker
from worker.engine.port import Engine

log = get_logger(__name__)

CHECKED_AT_ONCE = 12
_CHECKED_FIRST = 2

NEW_SHARE = 0.2
"""Of the newest fetch in `block_s`: some ten fetches are remembered."""


def batches(num_blocks: int) -> Iterator[slice]:
    """Blocks that are checked while those before them are copied into the pool.

    Copying takes longer, and cannot begin before the first are checked: so those are few.
    """
    start, size = 0, _CHECKED_FIRST
    while start < num_blocks:
        yield slice(start, start + size)
        start, size = start + size, min(2 * size, CHECKED_AT_ONCE)


class PrefixFetcher(Protocol):
    """Makes a prompt cheaper before it is submitted.

    Attributes:
        block_s: time that a block lately took, asking for it included; 0 until one came.
    """

    block_s: float

    async def fetch(self, request: QueuedRequest, context: Context) -> int:
        """Brings blocks and says how many; within its deadlines, raising but CancelledError.

        Args:
            request: whose prompt it is.
            context: parent of the spans.
        """
        ...


class NoFetcher:
    """For a worker without a cache service."""

    block_s = 0.0

    async def fetch(self, request: QueuedRequest, context: Context) -> int:
        """Does nothing."""
        return 0


@dataclass(frozen=True, slots=True)
class FetchTimeouts:
    """How long a request may wait, seconds; see WorkerSettings.

    Attributes:
        per_block_s: added to both for each block.
    """

    lookup_s: float
    get_s: float
    per_block_s: float


class CacheFetcher:
    """PrefixFetcher over the cache service. A block is used only if all of it matches."""

    def __init__(
        self,
        engine: Engine,
        client: CachePort,
        breaker: CircuitBreaker,
        timeouts: FetchTimeouts,
    ) -> None:
        self._engine = engine
        self._client = client
        self._breaker = breaker
        self._timeouts = timeouts
        self._touches = CacheTouches(client, breaker, timeout_s=timeouts.lookup_s)
        self.block_s = 0.0

    async def fetch(self, request: QueuedRequest, context: Context) -> int:
        """Imports the leading run of missing blocks that the service has."""
        if self._breaker.is_open:
            return 0
        chain = self._chain(request)
        if chain.num_held == len(chain.hashes):
            self._touches.touch(chain)
            return 0
        with tracer.start_as_current_span(names.SPAN_CACHE_FETCH, context) as span:
            began_s = time.perf_counter()
            num_blocks = await self._fetch(chain)
            if num_blocks:
                each_s = (time.perf_counter() - began_s) / num_blocks
                before_s = self.block_s or each_s
                self.block_s = before_s + NEW_SHARE * (each_s - before_s)
            span.set_attribute(names.NUM_BLOCKS, num_blocks)
        return num_blocks

    def _chain(self, request: QueuedRequest) -> BlockQuery:
        layout = self._engine.layout
        # One prompt token is always computed: its logits choose the first new token.
        hashes = self._engine.names.hashes(request.tenant, request.prompt_token_ids[:-1])
        return BlockQuery(
            tuple(hashes),
            layout.text(),
            request.tenant,
            num_held=len(hashes) - self._engine.num_missing_blocks(hashes),
        )

    async def _fetch(self, chain: BlockQuery) -> int:
        missing = chain.hashes[chain.num_held :]
        received: list[BlockPayload] = []
        wanted: Sequence[BlockHash] = ()
        fault = ""
        try:
            found = await self._client.lookup(
                chain,
                timeout_s=self._timeouts.lookup_s + len(missing) * self._timeouts.per_block_s,
            )
            # More than fits would push out what was just brought.
            wanted = missing[: min(found.num_blocks, self._engine.load().num_free_blocks)]
            received += found.blocks[: len(wanted)]
            if len(received) < len(wanted):
                await self._receive(chain, wanted[len(received) :], received)
        except TokenmillError as exc:
            fault = exc.message
        except Exception as exc:
            # A cache can only help: whatever a cache makes us stumble over, the request goes on.
            fault = repr(exc)
        num_used, lie = await self._use(received, wanted)
        fault = lie or fault
        if fault:
            self._breaker.failed()
            trace.get_current_span().set_attribute(names.ERROR_TYPE, "cache_fault")
            log.warning("cache.fetch_failed", fault=fault, num_blocks=num_used)
        else:
            self._breaker.succeeded()
        return num_used

    async def _receive(
        self, chain: BlockQuery, wanted: Sequence[BlockHash], received: list[BlockPayload]
    ) -> None:
        num_most = len(received) + len(wanted)
        timeout_s = self._timeouts.get_s + len(wanted) * self._timeouts.per_block_s
        blocks = self._client.get(
            wanted, head=chain.hashes[0], layout=chain.layout, timeout_s=timeout_s
        )
        async with aclosing(blocks):
            async for block in blocks:
                received.append(block)
                if len(received) > num_most:
                    break  # A lie; otherwise the stream is read to its end, for its status.

    async def _use(
        self, received: Sequence[BlockPayload], hashes: Sequence[BlockHash]
    ) -> tuple[int, str]:
        num_used = 0
        for some in batches(len(received)):
            # Checksums over many megabytes would hold up everybody's tokens.
            checked = await asyncio.to_thread(
                check_blocks, received[some], hashes[some], self._engine.layout
            )
            if checked.blocks:
                self._engine.import_blocks(checked.blocks)
            num_used += len(checked.blocks)
            if checked.fault:
                return num_used, checked.fault
        return num_used, ""
