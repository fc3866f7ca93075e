import asyncio

import pytest

from benchmarks.stream_reader import read_stream

EVENTS = (
    b'HTTP/1.1 200 OK\r\n\r\ndata: {"choices":[{"text":"a"}]}\n\ndata: {"choices":[{"te',
    b'xt":"b"}]}\n\n',
    b'data: {"choices":[{"text":""}]}\n\ndata: {"choices":[],"usage":{"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n",
)


@pytest.mark.parametrize("num_sent", [1, 2, 3])
async def test_events_are_counted_however_they_are_cut(num_sent: int):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        for part in EVENTS[:num_sent]:
            writer.write(part)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        stream = await read_stream("127.0.0.1", port, "m", 2)
    assert 1 <= len(stream.arrivals_s) <= num_sent
    assert (stream.is_whole, stream.num_tokens) == ((True, 2) if num_sent == 3 else (False, 0))
