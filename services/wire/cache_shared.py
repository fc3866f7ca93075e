"""CacheService messages about blocks in shared memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenmill.v1 import cache_pb2 as pb

from services.core.errors import InvalidRequest
from services.core.shared_blocks import BlockHandle, SharedName, StagedBlock, StagedOffer
from services.wire.cache import check_hash

_MAX_NAME_CHARS = 255


@dataclass(frozen=True, slots=True)
class SharedOutcome:
    """What became of an offer.

    Attributes:
        is_readable: whether the service could read the sender's file.
    """

    is_readable: bool
    num_stored: int = 0
    num_present: int = 0
    num_rejected: int = 0


def memory_to_pb(name: SharedName) -> pb.SharedMemory:
    """A file as it is told of."""
    return pb.SharedMemory(name=name.name, nonce=name.nonce)


def memory_of_lookup(message: pb.LookupResponse) -> SharedName | None:
    """The service's file, if it has one."""
    if not message.HasField("memory"):
        return None
    return SharedName(message.memory.name, message.memory.nonce)


def handles_to_pb(handles: Sequence[BlockHandle]) -> pb.GetResponse:
    """Handles as sent."""
    response = pb.GetResponse()
    add_handles(response, handles)
    return response


def add_handles(
    message: pb.GetResponse | pb.LookupResponse, handles: Iterable[BlockHandle]
) -> None:
    """Adds handles to an answer."""
    for handle in handles:
        message.handles.add(
            block_hash=handle.block_hash,
            offset_bytes=handle.offset_bytes,
            size_bytes=handle.size_bytes,
            generation=handle.generation,
            generation_offset_bytes=handle.generation_offset_bytes,
            crc32=handle.crc32,
        )


def handles_from_pb(message: pb.GetResponse | pb.LookupResponse) -> list[BlockHandle]:
    """Handles as received; nothing is known of where they point to."""
    return [
        BlockHandle(
            handle.block_hash,
            handle.offset_bytes,
            handle.size_bytes,
            handle.generation,
            handle.generation_offset_bytes,
            handle.crc32,
        )
        for handle in message.handles
    ]


def offer_to_pb(offer: StagedOffer) -> pb.PutSharedRequest:
    """An offer as sent."""
    return pb.PutSharedRequest(
        memory=memory_to_pb(offer.memory),
        layout=offer.layout,
        blocks=[
            pb.StagedBlock(
                block_hash=block.block_hash,
                parent_hash=block.parent_hash,
                offset_bytes=block.offset_bytes,
                size_bytes=block.size_bytes,
                crc32=block.crc32,
                tenant=block.tenant,
            )
            for block in offer.blocks
        ],
    )


def offer_from_pb(message: pb.PutSharedRequest) -> StagedOffer:
    """An offer as received.

    Raises:
        InvalidRequest: a hash of another length, or a name too long to be one.
    """
    if len(message.memory.name) > _MAX_NAME_CHARS:
        raise InvalidRequest(
            f"memory.name has {len(message.memory.name)} characters; allowed:"
            f" at most {_MAX_NAME_CHARS}",
            field="memory",
        )
    for block in message.blocks:
        check_hash(block.block_hash, "block_hash")
        if block.parent_hash:
            check_hash(block.parent_hash, "parent_hash")
    return StagedOffer(
        SharedName(message.memory.name, message.memory.nonce),
        message.layout,
        [
            StagedBlock(
                block.block_hash,
                block.parent_hash,
                block.offset_bytes,
                block.size_bytes,
                block.crc32,
                block.tenant,
            )
            for block in message.blocks
        ],
    )


def outcome_to_pb(outcome: SharedOutcome) -> pb.PutSharedResponse:
    """An answer as sent."""
    return pb.PutSharedResponse(
        is_readable=outcome.is_readable,
        num_stored=outcome.num_stored,
        num_present=outcome.num_present,
        num_rejected=outcome.num_rejected,
    )


def outcome_from_pb(message: pb.PutSharedResponse) -> SharedOutcome:
    """An answer as received."""
    return SharedOutcome(
        message.is_readable, message.num_stored, message.num_present, message.num_rejected
    )
