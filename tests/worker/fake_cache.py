from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import takewhile
from typing import Any

import grpc
from tokenmill.v1.cache_pb2 import GetResponse
from tokenmill.v1.cache_pb2_grpc import (
    CacheServiceServicer,
    add_CacheServiceServicer_to_server,
)

from services.core.blocks import BlockHash, BlockPayload
from services.wire.cache import (
    BlockAssembler,
    block_to_get_responses,
    lookup_response_to_pb,
    put_response_to_pb,
)

Lie = Callable[[BlockPayload], BlockPayload]


class FakeCache(CacheServiceServicer):
    """Keeps blocks; lies, hangs or fails when told to."""

    def __init__(self) -> None:
        self.blocks: dict[BlockHash, BlockPayload] = {}
        self.lie: Lie = lambda block: block
        self.num_lookups = 0
        self.num_gets = 0
        self.hang_in = ""
        self.claims_all = False
        self.address = ""
        self._server = grpc.aio.server()

    async def __aenter__(self) -> FakeCache:
        add_CacheServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    def keep(self, *blocks: BlockPayload) -> None:
        self.blocks.update({block.block_hash: block for block in blocks})

    async def Lookup(self, request: Any, context: Any) -> Any:
        self.num_lookups += 1
        await self._maybe_hang("Lookup")
        there = list(takewhile(self.blocks.__contains__, request.block_hashes[request.num_held :]))
        num_blocks = len(there)
        if self.claims_all:
            num_blocks = len(request.block_hashes)
        return lookup_response_to_pb(num_blocks, 10_000)

    async def Get(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.num_gets += 1
        for block_hash in request.block_hashes:
            if block_hash not in self.blocks:
                return
            for encoded in block_to_get_responses(self.lie(self.blocks[block_hash])):
                # As a server without our shortcut would write it.
                yield GetResponse.FromString(encoded)
            await self._maybe_hang("Get")

    async def Put(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        assembler, num_stored = BlockAssembler(), 0
        async for request in request_iterator:
            await self._maybe_hang("Put")
            block = assembler.feed(request.chunk)
            if block is not None:
                self.keep(block)
                num_stored += 1
        return put_response_to_pb(num_stored=num_stored, num_present=0, num_rejected=0)

    async def _maybe_hang(self, method: str) -> None:
        if self.hang_in == method:
            await asyncio.Event().wait()


def flipped(block: BlockPayload) -> BlockPayload:
    return replace(block, data=bytes(block.data[:-1]) + bytes([block.data[-1] ^ 1]))


def shortened(block: BlockPayload) -> BlockPayload:
    content = bytes(block.data[:-1])
    return replace(block, data=content, crc32=zlib.crc32(content))


def renamed(block: BlockPayload) -> BlockPayload:
    return replace(block, block_hash=b"x" * 16)


def of_another_layout(block: BlockPayload) -> BlockPayload:
    return replace(block, layout="kv1:other")
