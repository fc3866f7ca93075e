"""CacheService: messages in, the store's answers out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from tokenmill.v1.cache_pb2_grpc import CacheServiceServicer

from cache_service.policies.choice import PolicyChoice
from cache_service.store_rules import PutOutcome
from cache_service.tiers import TieredStore
from services.core.blocks import BlockPayload
from services.core.errors import DeadlineExceeded, InvalidRequest, Overloaded
from services.core.shared_blocks import BlockHandle, StagedBlock, StagedOffer
from services.runtime import faults, names
from services.runtime.checksum import is_intact
from services.runtime.logs import get_logger
from services.runtime.shared_memory import ReadMemory, open_shared
from services.wire.cache import (
    BlockAssembler,
    BlockQuery,
    CacheStats,
    block_to_get_responses,
    get_request_from_pb,
    lookup_request_from_pb,
    lookup_response_to_pb,
    policy_from_pb,
    put_response_to_pb,
    set_policy_response_to_pb,
    stats_response_to_pb,
)
from services.wire.cache_shared import (
    SharedOutcome,
    add_handles,
    handles_to_pb,
    offer_from_pb,
    outcome_to_pb,
)

log = get_logger(__name__)

MAX_LAYOUT_CHARS = 256
MAX_TENANT_CHARS = 256
# Below this the check costs less than a thread's turn.
_CHECKSUM_INLINE_BYTES = 4 << 20
_MAX_DISCARDED_PIECES = 64
_DISCARD_SILENCE_S = 0.2
_BUSY_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """Bounds of what one caller may ask; their meaning is in settings.py."""

    max_hashes: int
    max_block_bytes: int
    max_concurrent_puts: int
    put_idle_timeout_s: float


class CacheServicer(CacheServiceServicer):
    """Serves one store. Runs on the store's own event loop."""

    def __init__(self, store: TieredStore, limits: ServiceLimits, policies: PolicyChoice) -> None:
        self._store = store
        self._limits = limits
        self._policies = policies
        self._num_puts_running = 0

    async def Lookup(self, request: Any, context: Any) -> Any:
        """Leases the leading run that is here.

        A reader who shares our memory is told where it lies, up to the first block elsewhere.
        """
        query = lookup_request_from_pb(request)
        self._check_query(query)
        if query.is_offer:
            num_blocks = self._store.lease(query.hashes, query.layout)
        else:
            await faults.pause(faults.CACHE)
            num_blocks = self._store.lookup(
                query.hashes, query.layout, query.tenant, num_held=query.num_held
            )
            # Once the answer is on its way.
            asyncio.get_running_loop().call_soon(self._store.memory.settle)
        _set_num_blocks(num_blocks)
        arena = self._store.arena
        response = lookup_response_to_pb(
            num_blocks,
            round(self._store.memory.limits.lease_s * 1000),
            arena.name if arena is not None else None,
        )
        if arena is not None and query.memory_nonce == arena.name.nonce:
            found = query.hashes[query.num_held : query.num_held + num_blocks]
            add_handles(response, self._store.leading_handles(found, query.layout))
        return response

    async def Get(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Streams the leading run; of what lies on disk, a slow reader holds some megabytes.

        A reader who shares our memory is told where blocks are: all that follow each other at once.
        """
        query = get_request_from_pb(request)
        self._check_query(query)
        _set_num_blocks(self._store.lease(query.hashes, query.layout))
        arena = self._store.arena
        is_shared = arena is not None and query.memory_nonce == arena.name.nonce
        rest = query.hashes
        while rest:
            handles: list[BlockHandle] = []
            if is_shared:
                handles += self._store.leading_handles(rest, query.layout)
            rest = rest[len(handles) :]
            if handles:
                yield handles_to_pb(handles)
                continue
            blocks = await self._store.load(rest, query.layout)
            rest = rest[len(blocks) :]
            if not blocks:
                return
            for block in blocks:
                handle = arena.handle_of(block) if arena is not None and is_shared else None
                if handle is not None:
                    handles.append(handle)
                    continue
                if handles:
                    yield handles_to_pb(handles)
                    handles = []
                for response in block_to_get_responses(block):
                    yield response
            if handles:
                yield handles_to_pb(handles)

    async def Put(self, request_iterator: AsyncIterable[Any], context: Any) -> Any:
        """Takes blocks as they become whole; those before an error stay."""
        outcomes: Counter[PutOutcome | None] = Counter()
        with self._put_slot():
            try:
                async for block in self._blocks(request_iterator):
                    outcomes[await self._keep(block)] += 1
            except InvalidRequest:
                await _read_what_is_on_its_way(request_iterator)
                raise
        num_stored, num_present = outcomes[PutOutcome.STORED], outcomes[PutOutcome.PRESENT]
        _set_num_blocks(num_stored)
        return put_response_to_pb(
            num_stored=num_stored,
            num_present=num_present,
            num_rejected=outcomes.total() - num_stored - num_present,
        )

    async def PutShared(self, request: Any, context: Any) -> Any:
        """Takes blocks from a file of the sender's."""
        offer = offer_from_pb(request)
        memory = open_shared(offer.memory) if self._store.arena is not None else None
        if memory is None:
            return outcome_to_pb(SharedOutcome(is_readable=False))
        outcomes: Counter[PutOutcome | None] = Counter()
        with self._put_slot():
            for staged in offer.blocks:
                outcomes[await self._keep(self._read_staged(memory, offer, staged))] += 1
                # Others' calls come between.
                await asyncio.sleep(0)
        num_stored, num_present = outcomes[PutOutcome.STORED], outcomes[PutOutcome.PRESENT]
        _set_num_blocks(num_stored)
        num_rejected = outcomes.total() - num_stored - num_present
        return outcome_to_pb(SharedOutcome(True, num_stored, num_present, num_rejected))

    async def Stats(self, request: Any, context: Any) -> Any:
        """Counters and sizes."""
        store, counters = self._store.memory, self._store.memory.counters
        return stats_response_to_pb(
            CacheStats(
                num_blocks=store.num_blocks,
                size_bytes=store.size_bytes,
                capacity_bytes=store.limits.capacity_bytes,
                num_hits=self._store.num_hits,
                num_misses=counters.num_misses,
                num_evictions=counters.num_evictions,
                num_puts=counters.num_puts,
                policy=self._policies.name,
            )
        )

    async def SetPolicy(self, request: Any, context: Any) -> Any:
        """Changes the order in which blocks go; they all stay."""
        previous = self._policies.name
        self._store.memory.use_policy(self._policies.choose(policy_from_pb(request)))
        log.info("policy.changed", policy=self._policies.name, previous=previous)
        return set_policy_response_to_pb(previous)

    @contextmanager
    def _put_slot(self):
        if self._num_puts_running >= self._limits.max_concurrent_puts:
            raise Overloaded(
                f"{self._num_puts_running} Put streams run; allowed:"
                f" {self._limits.max_concurrent_puts}",
                retry_after_s=_BUSY_RETRY_S,
            )
        self._num_puts_running += 1
        try:
            yield
        finally:
            self._num_puts_running -= 1

    async def _blocks(self, requests: AsyncIterable[Any]) -> AsyncIterator[BlockPayload]:
        assembler = BlockAssembler(max_block_bytes=self._limits.max_block_bytes)
        pieces = aiter(requests)
        while True:
            try:
                async with asyncio.timeout(self._limits.put_idle_timeout_s):
                    piece = await anext(pieces, None)
            except TimeoutError as exc:
                raise DeadlineExceeded(
                    f"Put was silent for {self._limits.put_idle_timeout_s:g} s"
                ) from exc
            if piece is None:
                break
            block = assembler.feed(piece.chunk)
            if block is not None:
                yield block
        if not assembler.is_between_blocks:
            raise InvalidRequest("Put ended inside a block", field="data")

    def _read_staged(
        self, memory: ReadMemory, offer: StagedOffer, staged: StagedBlock
    ) -> BlockPayload:
        end = staged.offset_bytes + staged.size_bytes
        if not 0 < staged.size_bytes <= self._limits.max_block_bytes or end > len(memory.view):
            raise InvalidRequest(
                f"size_bytes is {staged.size_bytes}; allowed: 1 to {self._limits.max_block_bytes},"
                " within the file",
                field="size_bytes",
            )
        return BlockPayload(
            staged.block_hash,
            staged.parent_hash,
            offer.layout,
            staged.tenant,
            # A copy before it is checked: its sender can still write there.
            bytes(memory.view[staged.offset_bytes : end]),
            staged.crc32,
        )

    async def _keep(self, block: BlockPayload) -> PutOutcome | None:
        """None: damaged on its way."""
        _check_length("layout", block.layout, MAX_LAYOUT_CHARS)
        _check_length("tenant", block.tenant, MAX_TENANT_CHARS)
        size_bytes = len(block.data)
        is_good = (
            is_intact(block)
            if size_bytes < _CHECKSUM_INLINE_BYTES
            else await asyncio.to_thread(is_intact, block)
        )
        if not is_good:
            self._store.memory.counters.num_rejected += 1
            log.warning("block.damaged", size_bytes=size_bytes)
            return None
        return self._store.put(block)

    def _check_query(self, query: BlockQuery) -> None:
        if len(query.hashes) > self._limits.max_hashes:
            raise InvalidRequest(
                f"block_hashes has {len(query.hashes)} hashes; allowed:"
                f" at most {self._limits.max_hashes}",
                field="block_hashes",
            )
        _check_length("layout", query.layout, MAX_LAYOUT_CHARS)
        _check_length("tenant", query.tenant, MAX_TENANT_CHARS)


async def _read_what_is_on_its_way(requests: AsyncIterable[Any]) -> None:
    """Discards what a refused caller still sends, within bounds.

    A grpc.aio client that is sending while its call ends may see the failed send as an internal
    error instead of our answer.
    """
    pieces = aiter(requests)
    with suppress(TimeoutError):
        for _ in range(_MAX_DISCARDED_PIECES):
            async with asyncio.timeout(_DISCARD_SILENCE_S):
                if await anext(pieces, None) is None:
                    return


def _check_length(field: str, text: str, max_chars: int) -> None:
    if len(text) > max_chars:
        raise InvalidRequest(
            f"{field} has {len(text)} characters; allowed: at most {max_chars}", field=field
        )


def _set_num_blocks(num_blocks: int) -> None:
    trace.get_current_span().set_attribute(names.NUM_BLOCKS, num_blocks)
