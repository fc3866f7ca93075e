import asyncio

import pytest

from benchmarks.load_client import Reply, Server, ServerRefused, ask, first_model

STREAM = (
    b'data: {"choices":[{"text":"a"}]}\n\n'
    b'data: {"choices":[{"text":""}]}\n\n'
    b'data: {"choices":[{"text":"b"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)


def call(answer: bytes) -> Reply:
    async def run() -> Reply:
        server = await asyncio.start_server(_Answering(answer).serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await ask(Server("127.0.0.1", port), {"prompt": "x"})

    return asyncio.run(run())


class _Answering:
    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.splitlines()
            if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        writer.write(self.answer)
        await writer.drain()
        writer.close()


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("framed", [STREAM, chunked(STREAM)])
def test_events_with_text_are_timed_and_usage_is_read_however_the_body_is_framed(framed: bytes):
    reply = call(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + framed)
    assert len(reply.event_s) == 2
    assert (reply.prompt_tokens, reply.output_tokens) == (7, 2)
    assert reply.ended_s >= reply.event_s[-1]


def test_a_refusal_says_its_status():
    with pytest.raises(ServerRefused, match="http 429: slow down"):
        call(b"HTTP/1.1 429 Too Many\r\n\r\nslow down")


def test_a_stream_that_ends_early_is_broken():
    with pytest.raises(ServerRefused, match=r"without \[DONE\]"):
        call(b"HTTP/1.1 200 OK\r\n\r\n" + STREAM.split(b"data: [DONE]")[0])


def test_the_first_model_is_asked_when_none_is_named():
    async def run() -> str:
        body = b'{"data":[{"id":"tiny"},{"id":"other"}]}'
        answering = _Answering(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        server = await asyncio.start_server(answering.serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await first_model(Server("127.0.0.1", port))

    assert asyncio.run(run()) == "tiny"


def test_a_url_may_end_with_the_version():
    assert Server.from_url("http://h:8/v1/") == Server.from_url("http://h:8") == Server("h", 8)
    with pytest.raises(ValueError, match="allowed: http"):
        Server.from_url("https://h")
