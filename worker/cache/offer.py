"""Offers full blocks to the cache service, behind everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from opentelemetry.context import Context

from services.core.blocks import BlockPayload
from services.core.errors import TokenmillError
from services.runtime import names
from services.runtime.backlog import Backlog
from services.runtime.logs import get_logger
from services.runtime.telemetry import tracer
from services.wire.cache import BlockQuery
from worker.cache.client import CachePort
from worker.delivery.circuit_breaker import CircuitBreaker
from worker.engine.full_block import BlockState, FullBlock

log = get_logger(__name__)


class OfferQueue(Protocol):
    """Takes full blocks.

    Attributes:
        num_dropped: blocks that were dropped since start.
    """

    num_dropped: int

    def add(self, blocks: Sequence[FullBlock], context: Context | None) -> None:
        """Returns at once; may drop them.

        Args:
            blocks: a chain, or the end of one; at least one.
            context: parent of the spans; None if it is not known whose they are.
        """
        ...

    def has_room(self, num_bytes: int) -> bool:
        """Whether blocks of so many bytes would not be dropped now. From any thread."""
        ...


class NoOffers:
    """For a worker without a cache service."""

    num_dropped = 0

    def add(self, blocks: Sequence[FullBlock], context: Context | None) -> None:
        """Drops them."""

    def has_room(self, num_bytes: int) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class _Offer:
    blocks: Sequence[FullBlock]
    context: Context


class CacheOffers:
    """OfferQueue over the cache service. Bounded by bytes; what is too much is dropped."""

    def __init__(
        self,
        client: CachePort,
        breaker: CircuitBreaker,
        *,
        max_bytes: int,
        lookup_timeout_s: float,
        put_timeout_s: float,
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._backlog: Backlog[_Offer] = Backlog(max_bytes)
        self._lookup_timeout_s = lookup_timeout_s
        self._put_timeout_s = put_timeout_s
        self.num_dropped = 0

    def add(self, blocks: Sequence[FullBlock], context: Context | None) -> None:
        """Queues blocks for `run`, or drops them: the newest, since the older are in use sooner."""
        size_bytes = sum(block.size_bytes for block in blocks)
        offer = _Offer(blocks, context or Context())
        if self._breaker.is_open or not self._backlog.add(offer, size_bytes):
            self._drop(blocks)
            log.debug("cache.offer_dropped", num_blocks=len(blocks), num_dropped=self.num_dropped)

    def has_room(self, num_bytes: int) -> bool:
        """Whether blocks of so many bytes would not be dropped now. From any thread."""
        return not self._breaker.is_open and self._backlog.has_room(num_bytes)

    async def run(self) -> None:
        """Offers what is queued, for ever."""
        await self._backlog.run(self._offer)

    async def flush(self, timeout_s: float) -> None:
        """Waits until everything queued was offered, but not longer than timeout_s."""
        if not await self._backlog.flush(timeout_s):
            log.warning("cache.offers_left", num_offers=len(self._backlog))

    async def _offer(self, offer: _Offer) -> None:
        blocks = offer.blocks
        if self._breaker.is_open:
            self._drop(blocks)
            return
        with tracer.start_as_current_span(
            names.SPAN_CACHE_OFFER, offer.context, attributes={names.NUM_BLOCKS: len(blocks)}
        ) as span:
            try:
                await self._send(blocks)
            except TokenmillError as exc:
                self._breaker.failed()
                self._drop(blocks)
                span.set_attribute(names.ERROR_TYPE, type(exc).__name__)
                log.warning("cache.offer_failed", fault=exc.message, num_blocks=len(blocks))
            else:
                self._breaker.succeeded()
                for block in blocks:
                    block.settle(BlockState.SENT)

    async def _send(self, blocks: Sequence[FullBlock]) -> None:
        first = blocks[0].stub
        query = BlockQuery(
            tuple(block.stub.block_hash for block in blocks),
            first.layout,
            first.tenant,
            is_offer=True,
            head=first.head,
        )
        num_there = (await self._client.lookup(query, timeout_s=self._lookup_timeout_s)).num_blocks
        if num_there < len(blocks):
            # Many megabytes are copied and summed up: not on the event loop.
            payloads = await asyncio.to_thread(_read, blocks[num_there:])
            if payloads:
                await self._client.put(payloads, timeout_s=self._put_timeout_s)

    def _drop(self, blocks: Sequence[FullBlock]) -> None:
        self.num_dropped += len(blocks)
        for block in blocks:
            # Its eviction from the pool will be another chance.
            block.settle(BlockState.HERE)


def _read(blocks: Sequence[FullBlock]) -> list[BlockPayload]:
    """Their bytes, up to the first that is lost."""
    payloads: list[BlockPayload] = []
    for block in blocks:
        payload = block.payload()
        if payload is None:
            break
        payloads.append(payload)
    return payloads
