"""Calls to the K/V cache service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import grpc
from tokenmill.v1.cache_pb2_grpc import CacheServiceStub

from services.core.blocks import BlockHash, BlockPayload
from services.runtime.rpc_client import peer_errors
from services.runtime.shared_memory import CacheTransport
from services.wire.block_pieces import get_method
from services.wire.cache import (
    BlockAssembler,
    BlockQuery,
    block_to_put_requests,
    get_request_to_pb,
    lookup_request_to_pb,
)
from services.wire.cache_shared import (
    handles_from_pb,
    memory_of_lookup,
    offer_to_pb,
    outcome_from_pb,
)
from worker.cache.shared_blocks import SharedSource, StagingArea

_PEER = "cache service"


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup found.

    Attributes:
        num_blocks: in a row, after those that are held.
        blocks: the first of them, whole but not checked, that need not be got.
    """

    num_blocks: int = 0
    blocks: Sequence[BlockPayload] = ()


class CachePort(Protocol):
    """What a worker asks of the cache service, however many there are."""

    async def lookup(self, query: BlockQuery, *, timeout_s: float) -> Found:
        """Blocks that are there in a row, after those that are held."""
        ...

    def get(
        self, hashes: Sequence[BlockHash], *, head: BlockHash, layout: str, timeout_s: float
    ) -> AsyncGenerator[BlockPayload, None]:
        """Blocks as they come, whole but not checked; close it to stop the transfer.

        Args:
            hashes: in a row.
            head: first block of their chain.
            layout: of the reader.
            timeout_s: for all of them.
        """
        ...

    async def put(self, blocks: Sequence[BlockPayload], *, timeout_s: float) -> int:
        """Offers blocks of one chain; returns how many were kept."""
        ...


class CacheClient:
    """The cache service over one channel. Every failure is a TokenmillError.

    Blocks come and go through shared memory if the service turns out to be on this host.
    """

    def __init__(
        self, channel: grpc.aio.Channel, transport: CacheTransport = CacheTransport.AUTO
    ) -> None:
        self._stub: Any = CacheServiceStub(channel)
        self._get = get_method(channel)
        self._transport = transport
        self._source = SharedSource()
        self._staging = StagingArea()
        self._staging_lock = asyncio.Lock()
        self._has_answered = False

    async def lookup(self, query: BlockQuery, *, timeout_s: float) -> Found:
        """What the service has in a row, after those that are held.

        An offer, for which nobody waits, waits for a service that is just starting.
        """
        if not query.is_offer:
            query = replace(query, memory_nonce=self._source.nonce)
        with peer_errors(_PEER):
            response = await self._stub.Lookup(
                lookup_request_to_pb(query),
                timeout=timeout_s,
                wait_for_ready=query.is_offer and not self._has_answered,
            )
        self._has_answered = True
        if self._transport is not CacheTransport.GRPC:
            self._source.follow(memory_of_lookup(response))
        num_blocks = min(response.num_blocks, len(query.hashes) - query.num_held)
        handles = handles_from_pb(response)[:num_blocks]
        blocks = [self._source.payload(handle, query.layout) for handle in handles]
        return Found(num_blocks, blocks)

    async def get(
        self, hashes: Sequence[BlockHash], *, head: BlockHash, layout: str, timeout_s: float
    ) -> AsyncGenerator[BlockPayload, None]:
        """Blocks as they come, whole but not checked; close it to stop the transfer."""
        if self._transport is CacheTransport.SHM and not self._source.nonce:
            return
        assembler = BlockAssembler()
        request = get_request_to_pb(hashes, layout, memory_nonce=self._source.nonce)
        with peer_errors(_PEER):
            call = self._get(request, timeout=timeout_s)
            try:
                async for piece in call:
                    for handle in handles_from_pb(piece.message):
                        yield self._source.payload(handle, layout)
                    if not piece.message.HasField("chunk"):
                        continue
                    block = assembler.feed(piece.message.chunk, piece.content)
                    if block is not None:
                        yield block
            finally:
                call.cancel()

    async def put(self, blocks: Sequence[BlockPayload], *, timeout_s: float) -> int:
        """Offers blocks; returns how many the service kept."""
        if self._source.nonce:
            num_stored = await self._put_shared(blocks, timeout_s=timeout_s)
            if num_stored is not None:
                return num_stored
        if self._transport is CacheTransport.SHM:
            return 0
        return await self._put_streamed(blocks, timeout_s=timeout_s)

    def close(self) -> None:
        """Gives shared memory back. Twice is safe."""
        self._staging.close()

    async def _put_shared(self, blocks: Sequence[BlockPayload], *, timeout_s: float) -> int | None:
        """None: this is no way to the service."""
        num_offered = num_stored = 0
        async with self._staging_lock:
            offers = self._staging.stage(blocks)
            while (offer := await asyncio.to_thread(next, offers, None)) is not None:
                with peer_errors(_PEER):
                    response = await self._stub.PutShared(offer_to_pb(offer), timeout=timeout_s)
                outcome = outcome_from_pb(response)
                if not outcome.is_readable:
                    return None
                num_offered += len(offer.blocks)
                num_stored += outcome.num_stored
        return num_stored if num_offered == len(blocks) else None

    async def _put_streamed(self, blocks: Sequence[BlockPayload], *, timeout_s: float) -> int:
        async def pieces() -> AsyncIterator[Any]:
            for block in blocks:
                for piece in block_to_put_requests(block):
                    yield piece

        with peer_errors(_PEER):
            response = await self._stub.Put(pieces(), timeout=timeout_s)
        return response.num_stored
