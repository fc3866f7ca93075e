"""Request bodies: bounded, and decoded with errors that name the field."""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar

import msgspec
from starlette.types import Receive, Scope

from services.core.errors import (
    BodyTooLarge,
    InvalidRequest,
    RequestCancelled,
    RequestTooSlow,
    UnsupportedMediaType,
)

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_NAMED = re.compile(r"(?:unknown|required) field `(?P<name>[^`]*)`")

BODY_TIMEOUT_S = 30.0
"""A client that needs longer to send its body holds a connection for nothing."""

T = TypeVar("T")


async def read_body(scope: Scope, receive: Receive, *, limit_bytes: int) -> bytes:
    """The whole body. One that does not say what it is, is taken for JSON.

    Raises:
        UnsupportedMediaType: it says that it is no JSON.
        BodyTooLarge: said or sent more than limit_bytes.
        RequestTooSlow: the client sends too slowly.
        RequestCancelled: the client left before the end.
    """
    for key, value in scope["headers"]:
        if key == b"content-type":
            _check_json(value.decode("latin-1"))
        elif key == b"content-length" and value.isdigit() and int(value) > limit_bytes:
            raise BodyTooLarge(size_bytes=int(value), limit_bytes=limit_bytes)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _receive_all(receive, limit_bytes)
    except TimeoutError as exc:
        raise RequestTooSlow(
            f"the body was not whole after {BODY_TIMEOUT_S:g} s", reason="BODY_TOO_SLOW"
        ) from exc


def _check_json(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType(
            f"content-type is {kind[:64]!r}; allowed: application/json", field="content-type"
        )


async def _receive_all(receive: Receive, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestCancelled("the client left before its body was whole")
        chunk: bytes = message.get("body", b"")
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise BodyTooLarge(size_bytes=size_bytes, limit_bytes=limit_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as its struct.

    Raises:
        InvalidRequest: not JSON, not UTF-8, or a field of the wrong type; names the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        text = str(exc)
        raise InvalidRequest(text, field=_field_of(text)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(
            f"body is not JSON in UTF-8: {exc}", field="body", reason="MALFORMED_JSON"
        ) from exc


def _field_of(text: str) -> str | None:
    found = _PATH.search(text)
    path = found["path"] if found else ""
    named = _NAMED.search(text)
    parts = [part for part in (path, named["name"] if named else "") if part]
    return ".".join(parts) or None


def refuse_unless_neutral(field: str, value: Any, neutral: tuple[Any, ...]) -> None:
    """Refuses a field that is known but not supported, unless its value asks for nothing.

    Raises:
        InvalidRequest: names the field.
    """
    if value is None or value is msgspec.UNSET or any(_same(value, one) for one in neutral):
        return
    allowed = ", ".join(msgspec.json.encode(one).decode() for one in (None, *neutral))
    raise InvalidRequest(
        f"{field} is not supported; allowed: absent, {allowed}",
        field=field,
        reason="UNSUPPORTED_FIELD",
    )


def _same(value: Any, other: Any) -> bool:
    # In Python True == 1; on the wire it is not.
    return isinstance(value, bool) == isinstance(other, bool) and value == other
