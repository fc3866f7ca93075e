"""Everything that can go wrong, as one hierarchy.

TokenmillError
├── InvalidRequest        the caller must change the request
├── Unauthenticated       no valid key
├── PermissionDenied      the key lacks a scope
├── NotFound              no such model, session, ...
├── Conflict              somebody else changed it first
├── QuotaExceeded         the caller is over its share
├── Overloaded            the system is full
├── DependencyLost        a process that is needed does not answer
├── DeadlineExceeded      too late
└── RequestCancelled      the caller left

How each looks on gRPC and HTTP is written in services.wire.errors, and nowhere else.
"""

from __future__ import annotations

from services.core.quota import QuotaStatus


class TokenmillError(Exception):
    """Base of all errors that callers may see.

    Attributes:
        message: what, value, limit; one sentence for people.
        reason: UPPER_SNAKE_CASE, stable, for programs.
    """

    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class InvalidRequest(TokenmillError):
    """The request can never succeed as it is.

    Attributes:
        field: the offending field as the caller spells it, or None for the whole.
    """

    reason = "INVALID_REQUEST"

    def __init__(
        self, message: str, *, field: str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.field = field


class PromptTooLong(InvalidRequest):
    """Prompt, or prompt and answer, exceed the context window.

    Attributes:
        num_tokens: what was asked for.
        max_model_len: what fits.
    """

    reason = "CONTEXT_LENGTH_EXCEEDED"

    def __init__(self, *, field: str, num_tokens: int, max_model_len: int) -> None:
        super().__init__(
            f"{field} has {num_tokens} tokens; the model's context is {max_model_len} tokens"
            " and at least one must remain for the answer",
            field=field,
        )
        self.num_tokens = num_tokens
        self.max_model_len = max_model_len


class BodyTooLarge(InvalidRequest):
    """The message as a whole is over the size limit.

    Attributes:
        size_bytes: at least this much was sent.
        limit_bytes: what is taken.
    """

    reason = "BODY_TOO_LARGE"

    def __init__(self, *, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"body has at least {size_bytes} bytes; the limit is {limit_bytes} bytes",
            field="body",
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class UnsupportedMediaType(InvalidRequest):
    """The body is of a kind that is not read."""

    reason = "UNSUPPORTED_MEDIA_TYPE"


class HeadTooLarge(InvalidRequest):
    """First line and headers are over the size limit."""

    reason = "HEADERS_TOO_LARGE"


class Unauthenticated(TokenmillError):
    """No key, or not a valid one."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(TokenmillError):
    """The key is valid but lacks the scope."""

    reason = "PERMISSION_DENIED"


class NotFound(TokenmillError):
    """A thing that was named does not exist.

    Attributes:
        field: the field that named it.
    """

    reason = "NOT_FOUND"

    def __init__(
        self, message: str, *, field: str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.field = field


class Conflict(TokenmillError):
    """Somebody else changed it first; read again and retry."""

    reason = "CONFLICT"


class _RetryLater(TokenmillError):
    """Base of errors that name a time to wait.

    Attributes:
        retry_after_s: seconds until a retry has a chance; None if unknown.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class QuotaExceeded(_RetryLater):
    """The caller is over its share.

    Attributes:
        status: what is left of its limits, if known.
    """

    reason = "QUOTA_EXCEEDED"
    status: QuotaStatus | None = None


class Overloaded(_RetryLater):
    """The system is full."""

    reason = "OVERLOADED"


class DependencyLost(_RetryLater):
    """A process that is needed does not answer."""

    reason = "DEPENDENCY_LOST"


class DeadlineExceeded(TokenmillError):
    """The deadline passed first."""

    reason = "DEADLINE_EXCEEDED"


class RequestTooSlow(DeadlineExceeded):
    """The client took too long to send its request."""

    reason = "REQUEST_TOO_SLOW"


class RequestCancelled(TokenmillError):
    """The caller left or cancelled."""

    reason = "CANCELLED"
