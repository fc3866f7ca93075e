"""Replies: one JSON body, or server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from starlette.types import Send

from gateway.ask import Piece
from gateway.http.errors import Headers
from gateway.http.protocol import DirectWriter
from services.runtime import faults

DONE = b"data: [DONE]\n\n"
TEXT_MARK = "\N{OBJECT REPLACEMENT CHARACTER}"
_MARK_JSON = msgspec.json.encode(TEXT_MARK)

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


def around_mark(events: bytes) -> tuple[bytes, bytes]:
    """What events with the text TEXT_MARK have before and after it."""
    before, _, after = events.rpartition(_MARK_JSON)
    return before, after


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


class EventWriter(Protocol):
    """An answer as events."""

    def events(self, piece: Piece) -> bytes:
        """Server-sent events of one piece; empty if there is nothing to show."""
        ...

    def around_text(self, choice_idx: int) -> tuple[bytes, bytes] | None:
        """What the events of a piece in the middle have before and after the JSON of its text.

        None if they differ from piece to piece by more.
        """
        ...


class DirectSink:
    """A PieceSink that writes events past ASGI; see DirectWriter.

    Args:
        writer: of the answer.
        direct: the connection, once the reply has begun.
    """

    def __init__(self, writer: EventWriter, direct: DirectWriter) -> None:
        self._writer = writer
        self._direct = direct

    def is_ready(self) -> bool:
        """Whether a piece would go out at once."""
        return self._direct.is_ready() and not faults.delay_s(faults.WRITE)

    def take(self, piece: Piece) -> None:
        """Writes a piece's events."""
        events = self._writer.events(piece)
        if events:
            self._direct.write(events)

    def text_taker(self, choice_idx: int) -> Callable[[bytes], None] | None:
        """Writes the event of a text; None if there is more to tell than a text."""
        around = self._writer.around_text(choice_idx)
        return None if around is None else self._direct.write_between(*around)
