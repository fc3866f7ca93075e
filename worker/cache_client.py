"""Calls to the K/V cache service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Protocol

import grpc
from tokenmill.v1.cache_pb2_grpc import CacheServiceStub

from services.core.blocks import BlockHash, BlockPayload
from services.runtime.rpc_client import peer_errors
from services.wire.cache import (
    BlockAssembler,
    BlockQuery,
    block_to_put_requests,
    get_request_to_pb,
    lookup_request_to_pb,
)

_PEER = "cache service"


class CachePort(Protocol):
    """What a worker asks of the cache service, however many there are."""

    async def lookup(self, query: BlockQuery, *, timeout_s: float) -> int:
        """How many blocks are there in a row, after those that are held."""
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
    """The cache service over one channel. Every failure is a TokenmillError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = CacheServiceStub(channel)
        self._has_answered = False

    async def lookup(self, query: BlockQuery, *, timeout_s: float) -> int:
        """How many blocks the service has in a row, after those that are held.

        An offer, for which nobody waits, waits for a service that is just starting.
        """
        with peer_errors(_PEER):
            response = await self._stub.Lookup(
                lookup_request_to_pb(query),
                timeout=timeout_s,
                wait_for_ready=query.is_offer and not self._has_answered,
            )
        self._has_answered = True
        return min(response.num_blocks, len(query.hashes) - query.num_held)

    async def get(
        self, hashes: Sequence[BlockHash], *, head: BlockHash, layout: str, timeout_s: float
    ) -> AsyncGenerator[BlockPayload, None]:
        """Blocks as they come, whole but not checked; close it to stop the transfer."""
        assembler = BlockAssembler()
        with peer_errors(_PEER):
            call = self._stub.Get(get_request_to_pb(hashes, layout), timeout=timeout_s)
            try:
                async for response in call:
                    block = assembler.feed(response.chunk)
                    if block is not None:
                        yield block
            finally:
                call.cancel()

    async def put(self, blocks: Sequence[BlockPayload], *, timeout_s: float) -> int:
        """Offers blocks; returns how many the service kept."""

        async def pieces() -> AsyncIterator[Any]:
            for block in blocks:
                for piece in block_to_put_requests(block):
                    yield piece

        with peer_errors(_PEER):
            response = await self._stub.Put(pieces(), timeout=timeout_s)
        return response.num_stored
