"""HTTP as it comes in: a head that is too long or too slow is refused before anything is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from gateway.http.errors import error_body, error_status
from services.core.errors import HeadTooLarge, InvalidRequest, RequestTooSlow, TokenmillError
from services.runtime.logs import get_logger

log = get_logger(__name__)

MAX_HEAD_BYTES = 64 << 10
"""Request line and headers; keys and traces take a few hundred."""

HEAD_TIMEOUT_S = 15.0
"""A client that needs longer for its first line and headers holds a connection for nothing."""


DIRECT_SCOPE = "tokenmill.direct_writer"


class DirectWriter:
    """Chunks of a body that has begun, written without a task: ASGI's send is a coroutine."""

    def __init__(
        self, transport: asyncio.Transport, flow: FlowControl, cycle: RequestResponseCycle
    ) -> None:
        self._transport = transport
        self._flow = flow
        self._cycle = cycle

    def is_ready(self) -> bool:
        """Whether a chunk would go out, or be buffered within the limit."""
        cycle = self._cycle
        return not (
            self._flow.write_paused
            or cycle.disconnected
            or cycle.response_complete
            or not cycle.chunked_encoding
            or self._transport.is_closing()
        )

    def write(self, chunk: bytes) -> None:
        """Writes a chunk; only when ready, and not empty: that would be the end."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def write_between(self, before: bytes, after: bytes) -> Callable[[bytes], None]:
        """Writes chunks that have these bytes around what is given."""
        num_around, write = len(before) + len(after), self._transport.write
        after = after + b"\r\n"

        def write_chunk(content: bytes) -> None:
            write(b"%x\r\n%b%b%b" % (num_around + len(content), before, content, after))

        return write_chunk


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself would wait for and keep any head."""

    head_timeout_s = HEAD_TIMEOUT_S
    max_head_bytes = MAX_HEAD_BYTES

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._num_head_bytes = 0
        self._is_in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal: TokenmillError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A head is awaited from now on."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes, as many as a head may have."""
        if self._refusal is not None:
            return
        super().data_received(data)
        if self._is_in_head:
            # What is not whole yet is in the parser, which keeps it however long it is.
            self._num_head_bytes += len(data)
            self._check_size(self._num_head_bytes)

    def on_message_begin(self) -> None:
        """The first byte of a request is here."""
        super().on_message_begin()
        self._is_in_head = True
        self._num_head_bytes = 0
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._is_in_head = False
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.max_head_bytes:
            self._check_size(size)
            # Only an error makes the parser stop; what it calls then says nothing more.
            raise httptools.HttpParserError
        super().on_headers_complete()
        self.scope[DIRECT_SCOPE] = DirectWriter(self.transport, self.flow, self.cycle)  # type: ignore[typeddict-unknown-key]

    def send_400_response(self, msg: str) -> None:
        """Bytes that are no HTTP are the client's error, said as all are."""
        self._refuse(InvalidRequest(msg, reason="MALFORMED_HTTP"))

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._refuse(
            RequestTooSlow(
                f"headers were not whole after {self.head_timeout_s:g} s", reason="HEADERS_TOO_SLOW"
            )
        )

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self.max_head_bytes:
            self._refuse(
                HeadTooLarge(
                    f"headers have at least {size_bytes} bytes;"
                    f" the limit is {self.max_head_bytes} bytes",
                    field="headers",
                )
            )

    def _refuse(self, error: TokenmillError) -> None:
        """Answers and closes; an answer that is under way is cut off instead."""
        self._stop_timer()
        if self._refusal is not None:
            return
        self._refusal = error
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if not self.transport.is_closing() and not is_answering:
            body = error_body(error)
            self.transport.write(
                STATUS_LINE[error_status(error)]
                + b"content-type: application/json\r\ncontent-length: "
                + str(len(body)).encode()
                + b"\r\nconnection: close\r\n\r\n"
                + body
            )
        log.info("http.refused", reason=error.reason)
        self.transport.close()
