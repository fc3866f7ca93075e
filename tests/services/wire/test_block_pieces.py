import pytest
from google.protobuf.message import DecodeError
from tokenmill.v1 import cache_pb2 as pb

from services.core.blocks import BlockPayload
from services.wire.block_pieces import decode_piece, encode_pieces
from services.wire.cache import BlockAssembler

BLOCK = BlockPayload(b"h" * 16, b"p" * 16, "layout", "tenant", bytes(range(256)) * 40, 0xFFFFFFFE)


def payload_of(encoded: list[bytes]) -> BlockPayload | None:
    assembler, block = BlockAssembler(), None
    for message in encoded:
        assert block is None, "it was whole before"
        piece = decode_piece(message)
        block = assembler.feed(piece.message.chunk, piece.content)
    return block


@pytest.mark.parametrize("piece_bytes", [1, 127, 128, 5000, 10_239, 10_240, 1 << 20])
@pytest.mark.parametrize("by_protobuf", [False, True])
def test_a_block_comes_as_it_went(piece_bytes: int, by_protobuf: bool):
    block = BLOCK if piece_bytes > 1 else BlockPayload(b"h" * 16, b"", "l", "", b"ab", 0)
    encoded = list(encode_pieces(block, piece_bytes))
    if by_protobuf:
        encoded = [pb.GetResponse.FromString(each).SerializeToString() for each in encoded]
    came = payload_of(encoded)
    assert came is not None
    assert (came.block_hash, bytes(came.data), came.crc32) == (
        block.block_hash,
        block.data,
        block.crc32,
    )
    assert (came.parent_hash, came.layout, came.tenant) == (
        block.parent_hash,
        block.layout,
        block.tenant,
    )


def test_what_goes_over_the_wire_is_the_message_of_the_proto():
    [encoded] = encode_pieces(BLOCK, 1 << 20)
    chunk = pb.GetResponse.FromString(encoded).chunk
    assert (chunk.data, chunk.size_bytes, chunk.tenant) == (BLOCK.data, 10_240, "tenant")


def test_handles_pass_as_they_are():
    response = pb.GetResponse(handles=[pb.BlockHandle(block_hash=b"h" * 16, offset_bytes=7)])
    assert decode_piece(response.SerializeToString()).message == response


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_what_is_cut_off_is_no_message(cut: int):
    [encoded] = encode_pieces(BLOCK, 1 << 20)
    with pytest.raises(DecodeError):
        decode_piece(encoded[:-cut])


@pytest.mark.parametrize("position", range(40))
def test_whatever_is_changed_gives_a_message_or_an_error(position: int):
    [encoded] = encode_pieces(BLOCK, 1 << 20)
    for value in (0x00, 0x32, 0x7F, 0xFF):
        changed = encoded[:position] + bytes([value]) + encoded[position + 1 :]
        try:
            piece = decode_piece(changed)
        except DecodeError:
            continue
        assert bytes(piece.content) in (BLOCK.data, pb.GetResponse.FromString(changed).chunk.data)
