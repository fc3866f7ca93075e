"""Replies: one JSON body, or server-sent events."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import Send

from gateway.ask import Piece
from gateway.http.errors import Headers
from gateway.http_protocol import DirectWriter
from services.runtime import faults

DONE = b"data: [DONE]\n\n"

_SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies of the nginx family would hold events back.
    (b"x-accel-buffering", b"no"),
]


def event(json_text: bytes) -> bytes:
    """One event."""
    return b"data: " + json_text + b"\n\n"


def named_event(name: str, json_text: bytes) -> bytes:
    """One event that has a name."""
    return b"event: " + name.encode() + b"\ndata: " + json_text + b"\n\n"


async def send_reply(
    send: Send,
    status: int,
    body: bytes,
    *,
    headers: Headers | None = None,
    content_type: bytes = b"application/json",
) -> None:
    """A whole reply."""
    all_headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        *(headers or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


class EventStream:
    """Starts with the first event, so that an error before it can still be a plain reply."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self._send = send
        self._headers = [*_SSE_HEADERS, *headers]
        self.has_started = False

    def add_headers(self, headers: Headers) -> None:
        """More headers; without effect once it has started."""
        self._headers.extend(headers)

    async def write(self, events: bytes) -> None:
        """Writes events at once."""
        await faults.pause(faults.WRITE)
        if not self.has_started:
            self.has_started = True
            await self._send(
                {"type": "http.response.start", "status": 200, "headers": self._headers}
            )
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def end(self) -> None:
        """Nothing more comes."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class DirectSink:
    """A PieceSink that writes events past ASGI; see DirectWriter.

    Args:
        events: a piece's events.
        direct: the connection, once the reply has begun.
    """

    def __init__(self, events: Callable[[Piece], bytes], direct: DirectWriter) -> None:
        self._events = events
        self._direct = direct

    def is_ready(self) -> bool:
        """Whether a piece would go out at once."""
        return self._direct.is_ready() and not faults.delay_s(faults.WRITE)

    def take(self, piece: Piece) -> None:
        """Writes a piece's events."""
        events = self._events(piece)
        if events:
            self._direct.write(events)
