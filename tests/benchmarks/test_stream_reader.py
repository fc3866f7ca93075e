from __future__ import annotations

import asyncio

import pytest

from benchmarks.stream_reader import Order, read_streams, stream_of

EVENTS = (
    b'HTTP/1.1 200 OK\r\n\r\ndata: {"choices":[{"text":"a"}]}\n\ndata: {"choices":[{"te',
    b'xt":"b"}]}\n\n',
    b'data: {"choices":[{"text":""}]}\n\ndata: {"choices":[],"usage":{"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n",
)


@pytest.mark.parametrize("num_read", [0, 1, 2, 3])
def test_events_count_where_they_end(num_read: int):
    stream = stream_of(1.0, [(2.0 + idx, data) for idx, data in enumerate(EVENTS[:num_read])])
    assert stream.began_s == 1.0
    assert stream.arrivals_s == [2.0, 3.0][:num_read]
    assert (stream.is_whole, stream.num_tokens) == ((True, 2) if num_read == 3 else (False, 0))


async def test_all_streams_are_read_and_a_broken_one_is_not_whole():
    num_served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num_served
        num_served += 1
        is_broken = num_served == 2
        await reader.readuntil(b"}}")
        for part in EVENTS[:1] if is_broken else EVENTS:
            writer.write(part)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        order = Order("127.0.0.1", port, "m", num_streams=3, num_tokens=2)
        streams = await asyncio.to_thread(read_streams, order)
    assert sorted(one.num_tokens for one in streams) == [0, 2, 2]
    assert sorted(one.is_whole for one in streams) == [False, True, True]
