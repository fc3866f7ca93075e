"""CacheService messages. Blocks travel in pieces, so that no message grows with the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenmill.v1 import cache_pb2 as pb

from services.core.blocks import BLOCK_HASH_BYTES, BlockHash, BlockPayload
from services.core.errors import InvalidRequest
from services.core.shared_blocks import SharedName
from services.wire.block_pieces import encode_pieces

CHUNK_BYTES = 1 << 20
"""Most blocks are one piece: then what came needs not be put together."""

MAX_BLOCK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since start, and sizes now."""

    num_blocks: int = 0
    size_bytes: int = 0
    capacity_bytes: int = 0
    num_hits: int = 0
    num_misses: int = 0
    num_evictions: int = 0
    num_puts: int = 0
    policy: str = ""


@dataclass(frozen=True, slots=True)
class BlockQuery:
    """Blocks that a reader asks for, in order.

    Attributes:
        num_held: leading blocks of a lookup that the reader has.
        is_offer: a lookup that asks what need not be sent, not what can be read.
        head: first block of the chain if that is not the first of the hashes; not sent.
        memory_nonce: of the shared memory that the reader has open; empty if none.
    """

    hashes: tuple[BlockHash, ...]
    layout: str
    tenant: str = ""
    num_held: int = 0
    is_offer: bool = False
    head: BlockHash = b""
    memory_nonce: bytes = b""


def lookup_request_to_pb(query: BlockQuery) -> pb.LookupRequest:
    """Lookup as sent."""
    return pb.LookupRequest(
        block_hashes=query.hashes,
        layout=query.layout,
        tenant=query.tenant,
        num_held=query.num_held,
        is_offer=query.is_offer,
        memory_nonce=query.memory_nonce,
    )


def lookup_request_from_pb(message: pb.LookupRequest) -> BlockQuery:
    """Lookup as received.

    Raises:
        InvalidRequest: a hash of another length, or more held than named.
    """
    hashes = _hashes_from_pb(message.block_hashes)
    if message.num_held > len(hashes):
        raise InvalidRequest(
            f"num_held is {message.num_held}; allowed: at most {len(hashes)}, the hashes",
            field="num_held",
        )
    return BlockQuery(
        hashes,
        message.layout,
        message.tenant,
        message.num_held,
        message.is_offer,
        memory_nonce=message.memory_nonce,
    )


def lookup_response_to_pb(
    num_blocks: int, lease_ms: int, memory: SharedName | None = None
) -> pb.LookupResponse:
    """Answer as sent.

    Args:
        num_blocks: found.
        lease_ms: how long they stay.
        memory: where they may lie.
    """
    response = pb.LookupResponse(num_blocks=num_blocks, lease_ms=lease_ms)
    if memory is not None:
        response.memory.name, response.memory.nonce = memory.name, memory.nonce
    return response


def get_request_to_pb(
    hashes: Sequence[BlockHash], layout: str, *, memory_nonce: bytes = b""
) -> pb.GetRequest:
    """Get as sent.

    Args:
        hashes: wanted.
        layout: of the reader.
        memory_nonce: of the shared memory that the reader has open; empty if none.
    """
    return pb.GetRequest(block_hashes=hashes, layout=layout, memory_nonce=memory_nonce)


def get_request_from_pb(message: pb.GetRequest) -> BlockQuery:
    """Get as received.

    Raises:
        InvalidRequest: a hash of another length.
    """
    return BlockQuery(
        _hashes_from_pb(message.block_hashes), message.layout, memory_nonce=message.memory_nonce
    )


def block_to_get_responses(block: BlockPayload) -> Iterator[bytes]:
    """A block as the pieces of a Get stream, encoded."""
    return encode_pieces(block, CHUNK_BYTES)


def block_to_put_requests(block: BlockPayload) -> Iterator[pb.PutRequest]:
    """A block as the pieces of a Put stream."""
    return (pb.PutRequest(chunk=chunk) for chunk in _chunks(block))


def put_response_to_pb(*, num_stored: int, num_present: int, num_rejected: int) -> pb.PutResponse:
    """Answer as sent."""
    return pb.PutResponse(num_stored=num_stored, num_present=num_present, num_rejected=num_rejected)


def stats_request_to_pb() -> pb.StatsRequest:
    """Stats request as sent."""
    return pb.StatsRequest()


def stats_response_to_pb(stats: CacheStats) -> pb.StatsResponse:
    """Counters as sent."""
    return pb.StatsResponse(
        num_blocks=stats.num_blocks,
        size_bytes=stats.size_bytes,
        capacity_bytes=stats.capacity_bytes,
        num_hits=stats.num_hits,
        num_misses=stats.num_misses,
        num_evictions=stats.num_evictions,
        num_puts=stats.num_puts,
        policy=stats.policy,
    )


def stats_from_pb(message: pb.StatsResponse) -> CacheStats:
    """Counters as received."""
    return CacheStats(
        num_blocks=message.num_blocks,
        size_bytes=message.size_bytes,
        capacity_bytes=message.capacity_bytes,
        num_hits=message.num_hits,
        num_misses=message.num_misses,
        num_evictions=message.num_evictions,
        num_puts=message.num_puts,
        policy=message.policy,
    )


def set_policy_request_to_pb(policy: str) -> pb.SetPolicyRequest:
    """Choice of a policy as sent."""
    return pb.SetPolicyRequest(policy=policy)


def policy_from_pb(message: pb.SetPolicyRequest) -> str:
    """Choice of a policy as received."""
    return message.policy


def set_policy_response_to_pb(previous: str) -> pb.SetPolicyResponse:
    """Answer as sent."""
    return pb.SetPolicyResponse(previous=previous)


class BlockAssembler:
    """Puts the pieces of a stream together; a lie about sizes or order raises."""

    def __init__(self, *, max_block_bytes: int = MAX_BLOCK_BYTES) -> None:
        self._max_block_bytes = max_block_bytes
        self._buffer = bytearray()
        self._head: pb.BlockChunk | None = None

    @property
    def is_between_blocks(self) -> bool:
        """Whether every block that was begun is whole."""
        return self._head is None

    def feed(
        self, chunk: pb.BlockChunk, content: bytes | memoryview | None = None
    ) -> BlockPayload | None:
        """Takes one piece; returns the block when it is whole.

        Args:
            chunk: the piece.
            content: its bytes, if they are not in it.

        Raises:
            InvalidRequest: a hash of another length; pieces out of order, of another block, or over
                the size that was said.
        """
        if self._head is None:
            if not 0 < chunk.size_bytes <= self._max_block_bytes:
                raise InvalidRequest(
                    f"size_bytes is {chunk.size_bytes}; allowed: 1 to {self._max_block_bytes}",
                    field="size_bytes",
                )
            check_hash(chunk.block_hash, "block_hash")
            if chunk.parent_hash:
                check_hash(chunk.parent_hash, "parent_hash")
            self._head = chunk
            self._buffer = bytearray()
        head = self._head
        if chunk.block_hash != head.block_hash or chunk.offset_bytes != len(self._buffer):
            self._head = None
            raise InvalidRequest("pieces of a block are out of order", field="offset_bytes")
        if content is None:
            # Read once: each reading of the field is a copy.
            content = chunk.data
        if len(content) == head.size_bytes and not self._buffer:
            self._head = None
            return _payload(head, content)
        self._buffer += content
        if len(self._buffer) > head.size_bytes or (
            not content and len(self._buffer) < head.size_bytes
        ):
            self._head = None
            raise InvalidRequest(
                f"block of {head.size_bytes} bytes sent {len(self._buffer)}", field="data"
            )
        if len(self._buffer) < head.size_bytes:
            return None
        self._head = None
        # No copy: nobody else has the buffer, and the next block gets its own.
        return _payload(head, memoryview(self._buffer).toreadonly())


def _payload(head: pb.BlockChunk, content: bytes | memoryview) -> BlockPayload:
    return BlockPayload(
        block_hash=head.block_hash,
        parent_hash=head.parent_hash,
        layout=head.layout,
        tenant=head.tenant,
        data=content,
        crc32=head.crc32,
    )


def _hashes_from_pb(hashes: Sequence[bytes]) -> tuple[BlockHash, ...]:
    for block_hash in hashes:
        check_hash(block_hash, "block_hashes")
    return tuple(hashes)


def check_hash(block_hash: bytes, field: str) -> None:
    """Raises InvalidRequest if a hash is of another length."""
    if len(block_hash) != BLOCK_HASH_BYTES:
        raise InvalidRequest(
            f"{field} has a hash of {len(block_hash)} bytes; allowed: {BLOCK_HASH_BYTES}",
            field=field,
        )


def _chunks(block: BlockPayload) -> Iterator[pb.BlockChunk]:
    view = memoryview(block.data).cast("B")
    # Of bytes that fit into one piece this is no copy.
    whole = bytes(block.data) if len(view) <= CHUNK_BYTES else None
    for offset in range(0, len(view), CHUNK_BYTES):
        yield pb.BlockChunk(
            block_hash=block.block_hash,
            parent_hash=block.parent_hash if offset == 0 else b"",
            layout=block.layout if offset == 0 else "",
            tenant=block.tenant if offset == 0 else "",
            size_bytes=len(view),
            offset_bytes=offset,
            data=whole or bytes(view[offset : offset + CHUNK_BYTES]),
            crc32=block.crc32,
        )
