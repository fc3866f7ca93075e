"""A request and its attempts."""

from __future__ import annotations

import enum
import re
import secrets
from dataclasses import dataclass, field

from services.core.sampling import SamplingParams

MAX_ATTEMPTS = 5
"""A request that lost this many workers is answered with an error."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class FinishReason(enum.Enum):
    """Why a request stopped producing tokens."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


class RequestClass(enum.StrEnum):
    """How urgent a request is."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class TraceContext:
    """W3C trace context of the work that caused something; empty strings if none."""

    traceparent: str = ""
    tracestate: str = ""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation; role is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request used; cached_tokens of the prompt were not computed anew.

    With is_result_cached nothing was: the answer was kept from an earlier request.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    is_result_cached: bool = False


@dataclass(frozen=True, slots=True)
class QueuedRequest:
    """One attempt at a request, as it waits in the queue.

    Attributes:
        attempt: 1 for the first try; one more for each worker lost.
        sampling: with max_tokens and seed set.
        deadline_unix_ms: after this nobody waits.
        reply_to: gRPC address of the owner's DeliveryService.
    """

    request_id: str
    attempt: int
    model: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    tenant: str
    session_id: str
    deadline_unix_ms: int
    reply_to: str
    request_class: RequestClass
    accepted_unix_ms: int


@dataclass(frozen=True, slots=True)
class Submission:
    """A request on its way to a worker, with the span that placed it.

    Attributes:
        encoded: the request as it came out of the queue, so that it is not encoded once more; empty
            if it did not come that way.
    """

    request: QueuedRequest
    trace: TraceContext = field(default_factory=TraceContext)
    encoded: bytes = b""


class SubmissionOutcome(enum.Enum):
    """What became of a submission; ACCEPTED and GONE settle the queue message."""

    ACCEPTED = "accepted"
    GONE = "gone"
    REFUSED = "refused"
    OWNER_UNREACHABLE = "owner_unreachable"


@dataclass(frozen=True, slots=True)
class SubmissionResult:
    """The worker's answer to one submission."""

    request_id: str
    outcome: SubmissionOutcome
    reason: str = ""


def new_request_id() -> str:
    """A fresh request id, unguessable, safe in subjects, headers and URLs."""
    return f"req-{secrets.token_hex(12)}"


def is_request_id(text: str) -> bool:
    """Whether a caller's own request id may be used as it is."""
    return _REQUEST_ID.fullmatch(text) is not None
