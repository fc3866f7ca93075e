"""What all answering routes do alike: read, parse, answer, and stop when the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from starlette.types import Receive, Scope, Send

from gateway.ask import Ask, Piece, whole_choices
from gateway.deadline import deadline_unix_ms, parse_timeout_s
from gateway.http.body import read_body
from gateway.http.errors import Headers, error_body
from gateway.http.protocol import DIRECT_SCOPE, DirectWriter
from gateway.http.quota_headers import quota_headers
from gateway.http.result_headers import result_headers
from gateway.http.sse import DirectSink, EventStream, EventWriter, event, send_reply
from gateway.intake import Intake
from gateway.requests.answer import Answer
from gateway.results.wish import NO_CACHE, CacheWish, wish_of
from services.core.caller import Caller
from services.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    RequestCancelled,
    TokenmillError,
)
from services.runtime.logs import get_logger

log = get_logger(__name__)

TIMEOUT_HEADER = "x-request-timeout-s"
REQUEST_ID_SCOPE = "tokenmill.request_id"
CALLER_SCOPE = "tokenmill.caller"
# Time for a slow reader to take what is whole already.
WRITE_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a route may need beside the body; header names in lower case."""

    request_id: str
    caller: Caller
    headers: Mapping[str, str]
    deadline_unix_ms: int
    cache: CacheWish = NO_CACHE


def head_of(scope: Scope, *, timeout_s: float) -> RequestHead:
    """What a route may need beside the body.

    Raises:
        InvalidRequest: X-Request-Timeout-S is no number of seconds, or X-Result-Cache no switch.
    """
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
    text = headers.get(TIMEOUT_HEADER)
    asked_s = None if text is None else parse_timeout_s(text, field="X-Request-Timeout-S")
    return RequestHead(
        request_id=scope[REQUEST_ID_SCOPE],
        caller=scope[CALLER_SCOPE],
        headers=headers,
        deadline_unix_ms=deadline_unix_ms(asked_s, limit_s=timeout_s),
        cache=wish_of(headers, scope[CALLER_SCOPE]),
    )


class AnswerWriter(EventWriter, Protocol):
    """An answer in one route's wire format."""

    def whole(self, choices: Sequence[Piece]) -> bytes:
        """JSON of a whole answer: each choice in one piece, in order; one of them has usage."""
        ...


def openai_error_event(error: BaseException) -> bytes:
    """An error after the stream has begun, as OpenAI's clients raise it."""
    return event(error_body(error))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A parsed request: what to ask, and how to write the answer.

    Attributes:
        begin: told of the answer before its first piece.
        keep: awaited when all is written but the last piece has not been sent: what a client that
            has seen the end can rely on.
        error_event: how an error is said after the stream has begun.
        spelt: fields that this route's clients know by another name.
    """

    ask: Ask
    writer: AnswerWriter
    headers: Headers = field(default_factory=list)
    begin: Callable[[Answer], None] | None = None
    keep: Callable[[], Awaitable[None]] | None = None
    error_event: Callable[[BaseException], bytes] = openai_error_event
    spelt: Mapping[str, str] = field(default_factory=dict)


class AnswerRoute:
    """ASGI endpoint.

    Args:
        intake: where asks go.
        parse: body and head to an exchange; raises InvalidRequest.
        max_body_bytes: see GatewaySettings.
        request_timeout_s: see GatewaySettings; the header X-Request-Timeout-S may ask for less.
    """

    def __init__(
        self,
        intake: Intake,
        parse: Callable[[bytes, RequestHead], Exchange],
        *,
        max_body_bytes: int,
        request_timeout_s: float,
    ) -> None:
        self._intake = intake
        self._parse = parse
        self._max_body_bytes = max_body_bytes
        self._timeout_s = request_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        head = head_of(scope, timeout_s=self._timeout_s)
        body = await read_body(scope, receive, limit_bytes=self._max_body_bytes)
        exchange = self._parse(body, head)
        await answer_exchange(self._intake, exchange, receive, send, direct_of(scope))


def direct_of(scope: Scope) -> DirectWriter | None:
    """The short way to the connection, if the server offers one."""
    return scope.get(DIRECT_SCOPE)


async def answer_exchange(
    intake: Intake,
    exchange: Exchange,
    receive: Receive,
    send: Send,
    direct: DirectWriter | None = None,
) -> None:
    """Asks and answers; stops when the client leaves.

    Raises:
        TokenmillError: refused, or broken off before anything was sent.
    """
    try:
        await _until_disconnect(receive, _reply(intake, exchange, send, direct))
    except InvalidRequest as exc:
        raise respelt(exc, exchange.spelt) from exc


def respelt(error: InvalidRequest, spelt: Mapping[str, str]) -> InvalidRequest:
    """The error with the field as the caller spells it."""
    name = spelt.get(error.field or "")
    if name is None:
        return error
    message = error.message
    if message.startswith(f"{error.field} "):
        message = name + message[len(error.field or "") :]
    return InvalidRequest(message, field=name, reason=error.reason)


async def _reply(
    intake: Intake, exchange: Exchange, send: Send, direct: DirectWriter | None
) -> None:
    left_s = exchange.ask.deadline_unix_ms / 1000 - time.time() + WRITE_GRACE_S
    try:
        async with asyncio.timeout(left_s):
            if exchange.ask.stream:
                await _stream(intake, exchange, send, direct)
            else:
                await _whole(intake, exchange, send)
    except TimeoutError as exc:
        raise DeadlineExceeded("the client did not read its answer in time") from exc


async def _stream(
    intake: Intake, exchange: Exchange, send: Send, direct: DirectWriter | None
) -> None:
    stream = EventStream(send, exchange.headers)
    try:
        async with (
            intake.answer(exchange.ask) as answer,
            aclosing(answer.pieces()) as pieces,
        ):
            stream.add_headers(_headers_of(answer))
            if exchange.begin is not None:
                exchange.begin(answer)
            async for piece in pieces:
                events = exchange.writer.events(piece)
                if piece.usage is not None and exchange.keep is not None:
                    await exchange.keep()
                if events:
                    await stream.write(events)
                    if direct is not None:
                        answer.divert(DirectSink(exchange.writer, direct))
                        direct = None
    except Exception as exc:
        if not stream.has_started:
            raise
        # The status line is gone: the error becomes an event, which clients raise.
        if not isinstance(exc, TokenmillError):
            log.error("answer.failed", exc_info=exc)
        await stream.write(exchange.error_event(exc))
    await stream.end()


async def _whole(intake: Intake, exchange: Exchange, send: Send) -> None:
    async with (
        intake.answer(exchange.ask) as answer,
        aclosing(answer.pieces()) as pieces,
    ):
        if exchange.begin is not None:
            exchange.begin(answer)
        choices = whole_choices([piece async for piece in pieces])
    body = exchange.writer.whole(choices)
    if exchange.keep is not None:
        await exchange.keep()
    headers = [*exchange.headers, *_headers_of(answer)]
    await send_reply(send, 200, body, headers=headers)


def _headers_of(answer: Answer) -> Headers:
    return [*quota_headers(answer.quota), *result_headers(answer.lookup)]


async def _until_disconnect(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Does the work; stops it when the client leaves.

    Raises:
        RequestCancelled: the client left.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return await task
        task.cancel()
        await asyncio.wait((task,))
        raise RequestCancelled("the client left")
    finally:
        watcher.cancel()
        task.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
