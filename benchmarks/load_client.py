"""A light client for any server that speaks OpenAI's wire format: asks, and times what comes back.

Raw asyncio instead of an HTTP library: at thousands of events a second the client's own work would
run into the server's time on the same machine.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_CONNECT_TIMEOUT_S = 10.0
_LINE_LIMIT = 1 << 20
_DATA = b"data: "
_DONE = b"[DONE]"


class ServerRefused(Exception):
    """The server answered, but not with an answer.

    Attributes:
        kind: short, for counting, e.g. `http 429`.
        why: what it said.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"{kind}: {why}")
        self.kind = kind
        self.why = why


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask.

    Attributes:
        host, port: of the server.
        path: what stands before `/v1`.
        api_key: sent as a bearer token; empty: none.
    """

    host: str
    port: int
    path: str = ""
    api_key: str = ""

    @classmethod
    def from_url(cls, url: str, api_key: str = "") -> Server:
        """A server by its URL, with or without a trailing /v1.

        Raises:
            ValueError: not an http URL with a host.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"url is {url!r}; allowed: http://HOST[:PORT][/PATH]")
        path = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.hostname, parts.port or 80, path, api_key)


@dataclass(slots=True)
class Reply:
    """One answer as it came; times are seconds after began, on the clock of time.perf_counter().

    Attributes:
        began: when the request was sent.
        event_s: arrival of each event with text.
        ended_s: end of the stream.
    """

    began: float
    event_s: list[float] = field(default_factory=list[float])
    ended_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


async def first_model(server: Server) -> str:
    """Name of the first model that the server lists.

    Raises:
        ServerRefused: it lists none.
        OSError: nobody answers.
    """
    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        try:
            writer.write(_head(server, "GET", "/v1/models", b""))
            await writer.drain()
            body = await _whole_body(reader)
        finally:
            writer.close()
    models = json.loads(body).get("data") or []
    if not models:
        raise ServerRefused("no model", f"{server.host}:{server.port} lists none")
    return str(models[0]["id"])


async def ask(server: Server, body: Mapping[str, Any]) -> Reply:
    """Asks POST /v1/completions for a stream and reads it to its end.

    Raises:
        ServerRefused: an error instead of an answer, or within it.
        OSError: the connection failed.
    """
    reply = Reply(time.perf_counter())
    async with aclosing(post_events(server, "/v1/completions", body)) as events:
        async for chunk in events:
            _take(chunk, time.perf_counter() - reply.began, reply)
    reply.ended_s = time.perf_counter() - reply.began
    return reply


async def post_events(
    server: Server,
    route: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
) -> AsyncGenerator[dict[str, Any], None]:
    """Posts JSON and yields the events of the stream that comes back, up to its [DONE].

    Raises:
        ServerRefused: an error instead of an answer, or within it.
        OSError: the connection failed.
    """
    encoded = json.dumps(body).encode()
    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=_LINE_LIMIT)
    try:
        writer.write(_head(server, "POST", route, encoded, headers) + encoded)
        await writer.drain()
        status = await _skip_head(reader)
        if status != 200:
            why = (await reader.read(_LINE_LIMIT)).decode(errors="replace")
            raise ServerRefused(f"http {status}", why[:300])
        # Lines of the chunked framing stand between events and begin with no `data: `.
        while line := await reader.readline():
            if not line.startswith(_DATA):
                continue
            data = line[len(_DATA) :].strip()
            if data == _DONE:
                return
            chunk = json.loads(data)
            if "error" in chunk:
                raise ServerRefused("error in stream", str(chunk["error"])[:300])
            yield chunk
        raise ServerRefused("broken stream", "it ended without [DONE]")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as exc:
        raise ServerRefused("broken stream", str(exc)) from exc
    finally:
        writer.close()


def _take(chunk: dict[str, Any], now_s: float, reply: Reply) -> None:
    if any(choice.get("text") for choice in chunk.get("choices", ())):
        reply.event_s.append(now_s)
    if usage := chunk.get("usage"):
        reply.prompt_tokens = usage["prompt_tokens"]
        reply.output_tokens = usage["completion_tokens"]
        reply.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


async def _skip_head(reader: asyncio.StreamReader) -> int:
    status_line = await reader.readline()
    try:
        status = int(status_line.split()[1])
    except (IndexError, ValueError) as exc:
        raise ServerRefused("not http", status_line[:80].decode(errors="replace")) from exc
    while (await reader.readline()).strip():
        pass
    return status


async def _whole_body(reader: asyncio.StreamReader) -> bytes:
    """Body of a reply to a request that said `connection: close`, framed or not."""
    status = await _skip_head(reader)
    rest = await reader.read(-1)
    if status != 200:
        raise ServerRefused(f"http {status}", rest[:300].decode(errors="replace"))
    begin, end = rest.find(b"{"), rest.rfind(b"}")
    return rest[begin : end + 1]


def _head(
    server: Server, method: str, route: str, body: bytes, headers: Mapping[str, str] | None = None
) -> bytes:
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    key = f"authorization: Bearer {server.api_key}\r\n" if server.api_key else ""
    return (
        f"{method} {server.path}{route} HTTP/1.1\r\n"
        f"host: {server.host}:{server.port}\r\n"
        f"content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"{key}{more}connection: close\r\n\r\n"
    ).encode()
