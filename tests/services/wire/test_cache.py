import zlib

import pytest

from services.core.blocks import BlockPayload
from services.core.errors import InvalidRequest
from services.wire.cache import CHUNK_BYTES, BlockAssembler, block_to_put_requests


def block_of(size: int, name: bytes = b"a") -> BlockPayload:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    return BlockPayload(name * 16, b"p" * 16, "layout", "tenant", data, zlib.crc32(data))


@pytest.mark.parametrize("size", [1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_a_block_comes_together_from_its_pieces(size: int):
    assembler = BlockAssembler()
    original = block_of(size)
    results = [assembler.feed(request.chunk) for request in block_to_put_requests(original)]
    assert results[:-1] == [None] * (len(results) - 1)
    assert results[-1] == original


def test_two_blocks_follow_each_other():
    assembler = BlockAssembler()
    for name in (b"a", b"b"):
        for request in block_to_put_requests(block_of(10, name)):
            assert assembler.feed(request.chunk) == block_of(10, name)


def test_a_missing_piece_is_refused():
    assembler = BlockAssembler()
    first, _, third = block_to_put_requests(block_of(3 * CHUNK_BYTES))
    assembler.feed(first.chunk)
    with pytest.raises(InvalidRequest, match="out of order"):
        assembler.feed(third.chunk)


def test_a_lying_length_is_refused():
    assembler = BlockAssembler()
    (request,) = block_to_put_requests(block_of(10))
    request.chunk.size_bytes = 5
    with pytest.raises(InvalidRequest, match="sent 10"):
        assembler.feed(request.chunk)
    request.chunk.size_bytes = 1 << 40
    with pytest.raises(InvalidRequest, match="size_bytes"):
        assembler.feed(request.chunk)
