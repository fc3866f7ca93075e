"""How often a peer may ask whether we are alive, seen from the wire (HTTP/2, RFC 9113)."""

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest

from services.runtime import rpc_server
from services.runtime.rpc_server import MIN_PING_INTERVAL, RpcServer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
NUM_PINGS = 8


def frame(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, 0]) + bytes(4) + payload


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[int]:
    while head := await reader.read(1):
        head += await reader.readexactly(8)
        await reader.readexactly(int.from_bytes(head[:3]))
        yield head[3]


async def num_answered(port: int) -> int:
    """Pings that were answered before the server hung up or all were."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + frame(SETTINGS) + frame(PING, bytes(8)))
    num_answers = 0
    try:
        async for kind in frames(reader):
            if kind == GOAWAY:
                break
            if kind == PING:
                num_answers += 1
                if num_answers == NUM_PINGS:
                    break
                writer.write(frame(PING, bytes(8)))
    finally:
        writer.close()
    return num_answers


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = RpcServer()
    yield await server.start("127.0.0.1", 0)
    await server.stop(0)


@pytest.fixture
def any_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no test waits for the interval of earnest: what counts is that grpc heeds it."""
    options = ((name, 0 if name == MIN_PING_INTERVAL else value) for name, value in OPTIONS)
    monkeypatch.setattr(rpc_server, "SERVER_OPTIONS", tuple(options))


OPTIONS = rpc_server.SERVER_OPTIONS


async def test_a_peer_that_asks_at_the_interval_that_is_allowed_is_never_hung_up_on(
    any_interval: None, port: int
):
    assert await num_answered(port) == NUM_PINGS


async def test_a_peer_that_floods_us_with_pings_is_hung_up_on(port: int):
    assert await num_answered(port) < NUM_PINGS


def test_our_own_peers_ask_less_often_than_is_allowed():
    options = dict(OPTIONS)
    assert options["grpc.keepalive_time_ms"] > options[MIN_PING_INTERVAL]
