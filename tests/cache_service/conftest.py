from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest

from services.core.blocks import BlockPayload

MakeBlock = Callable[..., BlockPayload]


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_block() -> MakeBlock:
    def make(
        number: int,
        *,
        parent: int | None = None,
        size_bytes: int = 100,
        layout: str = "layout",
        tenant: str = "tenant",
    ) -> BlockPayload:
        data = number.to_bytes(4, "little") * (size_bytes // 4 + 1)
        data = data[:size_bytes]
        return BlockPayload(
            block_hash=number.to_bytes(16, "big"),
            parent_hash=parent.to_bytes(16, "big") if parent is not None else b"",
            layout=layout,
            tenant=tenant,
            data=data,
            crc32=zlib.crc32(data),
        )

    return make
