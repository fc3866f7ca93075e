import asyncio
import json
from typing import Any

import pytest

from gateway.http.protocol import GuardedProtocol
from tests.gateway.conftest import Served


async def say(served: Served, *pieces: bytes) -> tuple[bytes, dict[str, Any]]:
    """Sends bytes and reads to the end; returns status line and body."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(10):
            reply = await reader.read()
    finally:
        writer.close()
    head, _, body = reply.partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], json.loads(body)


async def test_headers_that_do_not_come_are_waited_for_in_vain(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(GuardedProtocol, "head_timeout_s", 0.05)
    status, body = await say(served, b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n")
    assert status == b"HTTP/1.1 408 Request Timeout"
    assert "0.05 s" in body["error"]["message"]


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_headers_that_are_too_long_are_refused_with_the_limit(served: Served, end: bytes):
    head = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * (70 << 10) + end
    status, body = await say(served, head)
    assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert str(64 << 10) in body["error"]["message"]
    assert body["error"]["param"] == "headers"


async def test_bytes_that_are_no_http_are_refused_in_the_format_of_errors(served: Served):
    status, body = await say(served, b"\x16\x03\x01 hello\r\n\r\n")
    assert status == b"HTTP/1.1 400 Bad Request"
    assert body["error"]["type"] == "invalid_request_error"


async def test_connection_that_waits_between_requests_is_not_cut_off_by_the_head_s_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(GuardedProtocol, "head_timeout_s", 0.1)
    host, _, port = served.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for _ in range(2):
        writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        length = next(line for line in head.split(b"\r\n") if b"content-length" in line.lower())
        await reader.readexactly(int(length.partition(b":")[2]))
        await asyncio.sleep(0.2)
    writer.close()
