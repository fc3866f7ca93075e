"""A request that is not tried again, kept for people to look at."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.core.request import RequestClass

MAX_FRUITLESS_ATTEMPTS = 2
"""Workers that may be lost before a request's attempt brought one token; then it is a dead letter.
A worker that is lost later was hardly killed by this request: attempts go on then."""


class DeathReason(enum.StrEnum):
    """Why it is not tried again."""

    KILLED_WORKERS = "killed_workers"
    FAILED_SUBMISSIONS = "failed_submissions"
    UNDELIVERABLE = "undeliverable"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What became of a request; `payload` is the attempt as it was queued, its content included.

    Attributes:
        request_class: None if the message could not be read.
        num_attempts: the attempt that was the last.
        detail: for people.
        died_unix_ms: when it was given up.
    """

    model: str
    request_id: str
    request_class: RequestClass | None
    tenant: str
    reason: DeathReason
    num_attempts: int
    detail: str
    died_unix_ms: int
    payload: bytes = b""
