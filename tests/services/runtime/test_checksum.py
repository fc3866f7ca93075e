from __future__ import annotations

import zlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.core.blocks import BlockPayload
from services.runtime.checksum import crc32, is_intact


@given(st.binary(max_size=4096))
def test_sums_are_those_of_zlib(content: bytes):
    assert crc32(content) == crc32(memoryview(content)) == zlib.crc32(content)


def test_a_flipped_bit_is_seen():
    content = b"\x01" * 32
    block = BlockPayload(b"h" * 16, b"", "layout", "a", content, crc32(content))
    assert is_intact(block)
    assert not is_intact(replace(block, data=b"\x00" + content[1:]))
