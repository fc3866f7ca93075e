"""The one table from core errors to gRPC and HTTP, and back.

No other file names a status code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from services.core import errors

ERROR_DOMAIN = "tokenmill"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How one error class looks from outside.

    Attributes:
        openai_type: `error.type` of the OpenAI wire format.
        anthropic_type: the same of Anthropic's.
        openai_code: `error.code` of the OpenAI wire format; empty: our own reason.
    """

    error: type[errors.TokenmillError]
    grpc_code: grpc.StatusCode
    http_status: int
    openai_type: str
    anthropic_type: str = "api_error"
    openai_code: str = ""


# Most specific first: the first row that fits an error is its row.
ERROR_TABLE: tuple[ErrorRow, ...] = (
    ErrorRow(
        errors.BodyTooLarge,
        grpc.StatusCode.INVALID_ARGUMENT,
        413,
        "invalid_request_error",
        "request_too_large",
    ),
    ErrorRow(
        errors.UnsupportedMediaType,
        grpc.StatusCode.INVALID_ARGUMENT,
        415,
        "invalid_request_error",
        "invalid_request_error",
    ),
    ErrorRow(
        errors.HeadTooLarge,
        grpc.StatusCode.INVALID_ARGUMENT,
        431,
        "invalid_request_error",
        "request_too_large",
    ),
    ErrorRow(
        errors.InvalidRequest,
        grpc.StatusCode.INVALID_ARGUMENT,
        400,
        "invalid_request_error",
        "invalid_request_error",
    ),
    ErrorRow(
        errors.Unauthenticated,
        grpc.StatusCode.UNAUTHENTICATED,
        401,
        "invalid_request_error",
        "authentication_error",
    ),
    ErrorRow(
        errors.PermissionDenied,
        grpc.StatusCode.PERMISSION_DENIED,
        403,
        "permission_error",
        "permission_error",
    ),
    ErrorRow(
        errors.NotFound,
        grpc.StatusCode.NOT_FOUND,
        404,
        "invalid_request_error",
        "not_found_error",
    ),
    ErrorRow(
        errors.Conflict, grpc.StatusCode.ABORTED, 409, "conflict_error", "invalid_request_error"
    ),
    ErrorRow(
        errors.QuotaExceeded,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        429,
        "rate_limit_error",
        "rate_limit_error",
        "rate_limit_exceeded",
    ),
    ErrorRow(
        errors.Overloaded, grpc.StatusCode.UNAVAILABLE, 503, "overloaded_error", "overloaded_error"
    ),
    ErrorRow(errors.DependencyLost, grpc.StatusCode.UNAVAILABLE, 503, "server_error"),
    ErrorRow(
        errors.RequestTooSlow,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        408,
        "timeout_error",
        "timeout_error",
    ),
    ErrorRow(
        errors.DeadlineExceeded,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        504,
        "timeout_error",
        "timeout_error",
    ),
    ErrorRow(errors.RequestCancelled, grpc.StatusCode.CANCELLED, 499, "cancelled_error"),
)
INTERNAL_ROW = ErrorRow(errors.TokenmillError, grpc.StatusCode.INTERNAL, 500, "server_error")

_CODE_NUMBERS: dict[grpc.StatusCode, int] = {
    code: code_pb2.Code.Value(code.name) for code in grpc.StatusCode if code.name != "OK"
}


def row_of(error: BaseException) -> ErrorRow:
    """The row of an error; anything that is not in the table is our bug: INTERNAL."""
    for row in ERROR_TABLE:
        if isinstance(error, row.error):
            return row
    return INTERNAL_ROW


def public_message(error: BaseException) -> str:
    """Text that a caller may read; the text of a bug stays in the log."""
    if isinstance(error, errors.TokenmillError):
        return error.message
    return "internal error; the log of the service names it by request id"


def to_status(error: BaseException) -> status_pb2.Status:
    """google.rpc.Status with ErrorInfo, and BadRequest or RetryInfo where they apply."""
    row = row_of(error)
    reason = error.reason if isinstance(error, errors.TokenmillError) else "INTERNAL"
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN)]
    field = getattr(error, "field", None)
    if isinstance(error, errors.InvalidRequest) and field:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=field, description=error.message
                    )
                ]
            )
        )
    retry_after_s: float | None = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        details.append(
            error_details_pb2.RetryInfo(
                retry_delay=duration_pb2.Duration(
                    seconds=int(retry_after_s), nanos=int(retry_after_s % 1 * 1e9)
                )
            )
        )
    status = status_pb2.Status(code=_CODE_NUMBERS[row.grpc_code], message=public_message(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def from_rpc_error(
    code: grpc.StatusCode, message: str, status: status_pb2.Status | None, *, peer: str
) -> errors.TokenmillError:
    """The core error that a peer's answer stands for.

    Args:
        code: status code of the call.
        message: its text.
        status: rich status, if the peer sent one.
        peer: name of the service that was called, for the message.
    """
    info, violation, retry_after_s = _unpack_details(status.details if status else ())
    reason = info.reason if info and info.domain == ERROR_DOMAIN else None
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            field = violation.field if violation else None
            return errors.InvalidRequest(message, field=field, reason=reason)
        case grpc.StatusCode.UNAUTHENTICATED:
            return errors.Unauthenticated(message, reason=reason)
        case grpc.StatusCode.PERMISSION_DENIED:
            return errors.PermissionDenied(message, reason=reason)
        case grpc.StatusCode.NOT_FOUND:
            return errors.NotFound(message, reason=reason)
        case grpc.StatusCode.ABORTED:
            return errors.Conflict(message, reason=reason)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if reason is not None:
            return errors.QuotaExceeded(message, retry_after_s=retry_after_s, reason=reason)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            # grpc itself says so when a server's concurrency bound is reached.
            return errors.Overloaded(f"{peer}: {message}", retry_after_s=retry_after_s)
        case grpc.StatusCode.UNAVAILABLE if reason == errors.Overloaded.reason:
            return errors.Overloaded(message, retry_after_s=retry_after_s)
        case grpc.StatusCode.UNAVAILABLE:
            return errors.DependencyLost(f"{peer}: {message}", retry_after_s=retry_after_s)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.DeadlineExceeded(f"{peer}: {message}")
        case grpc.StatusCode.CANCELLED:
            return errors.RequestCancelled(f"{peer}: {message}")
        case _:
            return errors.TokenmillError(f"{peer}: {code.name}: {message}")


def _unpack_details(
    details: Sequence[any_pb2.Any],
) -> tuple[
    error_details_pb2.ErrorInfo | None,
    error_details_pb2.BadRequest.FieldViolation | None,
    float | None,
]:
    info: error_details_pb2.ErrorInfo | None = None
    violation: error_details_pb2.BadRequest.FieldViolation | None = None
    retry_after_s: float | None = None
    for detail in details:
        if detail.TypeName() == "google.rpc.ErrorInfo":
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
        elif detail.TypeName() == "google.rpc.BadRequest":
            bad_request = error_details_pb2.BadRequest()
            detail.Unpack(bad_request)
            violation = next(iter(bad_request.field_violations), None)
        elif detail.TypeName() == "google.rpc.RetryInfo":
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return info, violation, retry_after_s
