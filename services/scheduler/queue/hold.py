"""A held request, and the ways in which it ends."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from services.core.dead_letter import DeathReason
from services.core.request import SubmissionOutcome
from services.scheduler.order import HeldRequest
from services.scheduler.queue.message import QueueMessage

MAX_OWNER_RETRY_S = 10.0

Spawn = Callable[[Coroutine[Any, Any, None]], object]
"""Runs work that the process waits for, or cancels, at its end."""


class Word(enum.Enum):
    """What the broker is told: it is settled, it shall come again, it is given up."""

    ACK = "ack"
    NAK = "nak"
    TERM = "term"


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a held message ends.

    Attributes:
        outcome: why, for the trace, the log and the metrics.
        delay_s: of a NAK: the message comes again so much later.
        death: set if it becomes a dead letter.
        is_refused: its owner is told at once that it will not run.
    """

    word: Word
    outcome: str
    delay_s: float = 0.0
    death: DeathReason | None = None
    is_refused: bool = False


@dataclass(slots=True)
class Hold:
    """A held request with its message.

    Attributes:
        message: its latest delivery.
        span: the consumer span; ends when the message is settled.
        context: for spans below it; None until the span runs.
        is_submitted: a worker has it before it; it is not placed again meanwhile.
    """

    entry: HeldRequest
    message: QueueMessage
    settled: asyncio.Future[Settlement]
    span: Span = INVALID_SPAN
    context: Context | None = None
    is_submitted: bool = False
    was_submitted: bool = False


def owner_retry(hold: Hold, retry_s: float, now_s: float) -> Settlement:
    """What becomes of a request whose owner could not be reached.

    Args:
        hold: of the request.
        retry_s: the delay after the first such failure; each further one doubles it.
        now_s: Unix time.
    """
    doublings = min(hold.message.num_deliveries - 1, 16)
    delay_s = min(MAX_OWNER_RETRY_S, retry_s * 2**doublings)
    if now_s + delay_s >= hold.entry.request.deadline_unix_ms / 1000:
        return Settlement(Word.TERM, "owner_lost")
    return Settlement(Word.NAK, SubmissionOutcome.OWNER_UNREACHABLE.value, delay_s)
