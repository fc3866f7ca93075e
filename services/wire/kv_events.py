"""What a worker tells of its K/V blocks, to bytes and messages and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenmill.v1 import queue_pb2, worker_pb2

from services.core.blocks import BLOCK_HASH_BYTES, BlockHash
from services.core.kv_events import KvEvent, KvSnapshot
from services.wire.queue import BadPayload, parse_payload

BLOCKS_PER_PART = 32_768
"""Hashes in a part of a list: half a MiB, far under gRPC's limit of a message."""


def encode_kv_event(event: KvEvent) -> bytes:
    """Event as a NATS payload."""
    return queue_pb2.KvEvent(
        worker_id=event.worker_id,
        epoch=event.epoch,
        event_idx=event.event_idx,
        stored=b"".join(event.stored),
        removed=b"".join(event.removed),
    ).SerializeToString()


def decode_kv_event(payload: bytes) -> KvEvent:
    """Event from a NATS payload.

    Raises:
        BadPayload: not a KvEvent.
    """
    message = queue_pb2.KvEvent()
    parse_payload(message, payload)
    if not message.worker_id or message.event_idx < 1:
        raise BadPayload("worker_id or event_idx is missing in a KvEvent")
    return KvEvent(
        worker_id=message.worker_id,
        epoch=message.epoch,
        event_idx=message.event_idx,
        stored=_hashes(message.stored),
        removed=_hashes(message.removed),
    )


def snapshot_to_pb(snapshot: KvSnapshot) -> Iterator[worker_pb2.ListBlocksResponse]:
    """List as sent; one part at least."""
    for start in range(0, max(1, len(snapshot.held)), BLOCKS_PER_PART):
        yield worker_pb2.ListBlocksResponse(
            epoch=snapshot.epoch,
            event_idx=snapshot.event_idx,
            held=b"".join(snapshot.held[start : start + BLOCKS_PER_PART]),
        )


def snapshot_from_pb(worker_id: str, parts: Sequence[worker_pb2.ListBlocksResponse]) -> KvSnapshot:
    """List as received, all of its parts.

    Raises:
        BadPayload: there is no part, or one is damaged.
    """
    if not parts:
        raise BadPayload("a list of blocks came without a part")
    held = _hashes(b"".join(part.held for part in parts))
    return KvSnapshot(worker_id, parts[0].epoch, parts[0].event_idx, held)


def list_blocks_request() -> worker_pb2.ListBlocksRequest:
    """Asks for all blocks."""
    return worker_pb2.ListBlocksRequest()


def _hashes(joined: bytes) -> tuple[BlockHash, ...]:
    if len(joined) % BLOCK_HASH_BYTES:
        raise BadPayload(
            f"{len(joined)} bytes are no block hashes of {BLOCK_HASH_BYTES} bytes each"
        )
    return tuple(
        joined[start : start + BLOCK_HASH_BYTES]
        for start in range(0, len(joined), BLOCK_HASH_BYTES)
    )
