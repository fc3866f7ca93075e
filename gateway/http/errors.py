"""Errors as the OpenAI wire format says them."""

from __future__ import annotations

import math

import msgspec
from starlette.exceptions import HTTPException

from gateway.http.quota_headers import Headers, quota_headers
from services.core.errors import (
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    TokenmillError,
    Unauthenticated,
)
from services.wire.errors import public_message, row_of


class ErrorDetail(msgspec.Struct):
    """The `error` object; `param` names the field, `code` is stable."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct):
    """The whole body."""

    error: ErrorDetail


def error_body(error: BaseException) -> bytes:
    """JSON of an error; a bug's text stays in the log."""
    if isinstance(error, HTTPException):
        detail = ErrorDetail(error.detail, "invalid_request_error", None, None)
    else:
        reason = error.reason if isinstance(error, TokenmillError) else "INTERNAL"
        field = error.field if isinstance(error, InvalidRequest | NotFound) else None
        row = row_of(error)
        code = row.openai_code or reason.lower()
        detail = ErrorDetail(public_message(error), row.openai_type, field, code)
    return msgspec.json.encode(ErrorBody(detail))


def error_status(error: BaseException) -> int:
    """HTTP status of an error; Starlette's own are those of its router."""
    return error.status_code if isinstance(error, HTTPException) else row_of(error).http_status


def error_headers(error: BaseException) -> Headers:
    """Retry-After in whole seconds where a retry may help; how to authenticate, on a 401."""
    if isinstance(error, HTTPException):
        return [(key.lower().encode(), value.encode()) for key, value in _pairs(error)]
    headers: Headers = []
    if isinstance(error, QuotaExceeded) and error.status is not None:
        headers += quota_headers(error.status)
    if isinstance(error, Unauthenticated):
        return [(b"www-authenticate", b'Bearer realm="tokenmill"')]
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    if hasattr(error, "retry_after_s"):
        seconds = max(1, math.ceil(retry_after_s or 0))
        headers.append((b"retry-after", str(seconds).encode()))
    return headers


def _pairs(error: HTTPException) -> list[tuple[str, str]]:
    return list((error.headers or {}).items())
