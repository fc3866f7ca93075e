"""Pieces of blocks in a Get stream, written and read past protobuf: it would copy them twice.

What goes over the wire is a GetResponse as cache.proto has it, with `data` as its last field; what
another implementation writes in another order is read by protobuf.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenmill.v1 import cache_pb2 as pb

from services.core.blocks import BlockPayload

_GET = "/tokenmill.v1.CacheService/Get"
_CHUNK_TAG = b"\x0a"
_DATA_FIELD = 6
_BYTES = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """One message of a Get stream.

    Attributes:
        message: all of it but the bytes of a piece.
        content: those bytes.
    """

    message: pb.GetResponse
    content: bytes | memoryview


def encode_pieces(block: BlockPayload, piece_bytes: int) -> Iterator[bytes]:
    """A block as encoded GetResponses."""
    view = memoryview(block.data).cast("B")
    for offset in range(0, len(view), piece_bytes):
        content = view[offset : offset + piece_bytes]
        head = pb.BlockChunk(
            block_hash=block.block_hash,
            size_bytes=len(view),
            offset_bytes=offset,
            crc32=block.crc32,
        )
        if not offset:
            head.parent_hash, head.layout, head.tenant = (
                block.parent_hash,
                block.layout,
                block.tenant,
            )
        start = head.SerializeToString() + bytes([_DATA_FIELD << 3 | _BYTES])
        start += _varint(len(content))
        yield b"".join((_CHUNK_TAG, _varint(len(start) + len(content)), start, content))


def decode_piece(payload: bytes) -> Piece:
    """A message of a Get stream as received; the bytes of a piece are not copied.

    Raises:
        DecodeError: it is none.
    """
    found = _content_at(payload)
    if found is None:
        message = pb.GetResponse.FromString(payload)
        return Piece(message, message.chunk.data)
    start, data_at, content_at = found
    message = pb.GetResponse(chunk=pb.BlockChunk.FromString(payload[start:data_at]))
    return Piece(message, memoryview(payload)[content_at:])


def get_method(channel: Any) -> Any:
    """Get on a channel; its answers are Pieces."""
    return channel.unary_stream(
        _GET,
        request_serializer=pb.GetRequest.SerializeToString,
        response_deserializer=decode_piece,
    )


def _content_at(payload: bytes) -> tuple[int, int, int] | None:
    """Where the chunk, its last field and that one's bytes begin, if that is `data`."""
    try:
        if payload[:1] != _CHUNK_TAG:
            return None
        size, start = _read_varint(payload, 1)
        if start + size != len(payload):
            return None
        at = start
        while at < len(payload):
            field_at = at
            key, at = _read_varint(payload, at)
            match key & 7:
                case 2:  # Bytes.
                    size, at = _read_varint(payload, at)
                    if key >> 3 == _DATA_FIELD:
                        return (start, field_at, at) if at + size == len(payload) else None
                    at += size
                case 0:  # A varint.
                    _, at = _read_varint(payload, at)
                case 5:  # Four bytes.
                    at += 4
                case 1:  # Eight bytes.
                    at += 8
                case _:
                    return None
    except IndexError:
        pass
    return None


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(payload: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = payload[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
