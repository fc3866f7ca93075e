"""An attempt with all that belongs to it while it is here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.core.request import QueuedRequest, SubmissionOutcome, SubmissionResult
from worker.delivery.attempts import Attempt
from worker.delivery.client import GatewayStream
from worker.delivery.request_clock import RequestClock
from worker.reports.spans import RequestSpans


@dataclass(slots=True, eq=False)
class Job:
    """One attempt at work.

    Attributes:
        stream: where its tokens go.
        result: the answer to its submission.
        delivered: what earlier attempts delivered; known at once for the first attempt, else when
            the owner answers.
        attaching: asks the owner.
        feeding: fetches cached blocks, then hands the sequence to the engine.
        deadline: stops it when nobody waits any more.
        clock: when it was first in a step, and when its first token came.
        num_fetched_blocks: that the cache service gave for it.
        fetch_s: how long it waited for those.
    """

    attempt: Attempt
    stream: GatewayStream
    spans: RequestSpans
    result: asyncio.Future[SubmissionResult]
    delivered: asyncio.Future[Sequence[int]]
    attaching: asyncio.Task[None] | None = field(default=None)
    feeding: asyncio.Task[None] | None = field(default=None)
    deadline: asyncio.TimerHandle | None = field(default=None)
    num_fetched_blocks: int = 0
    fetch_s: float = 0.0
    clock: RequestClock = field(default_factory=RequestClock)


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """Whether an attempt may come in.

    Attributes:
        max_requests: requests that may be here at once, running and waiting.
    """

    model_name: str
    max_requests: int

    def refusal(
        self, request: QueuedRequest, *, num_requests: int, is_draining: bool
    ) -> SubmissionResult | None:
        """Why it may not come in; None if it may."""
        outcome, reason = SubmissionOutcome.REFUSED, ""
        if is_draining:
            reason = "the worker is draining"
        elif request.model != self.model_name:
            reason = f"model is {request.model}; this worker runs {self.model_name}"
        elif num_requests >= self.max_requests:
            reason = f"the worker has {num_requests} requests; its limit is {self.max_requests}"
        elif seconds_left(request) <= 0:
            outcome, reason = SubmissionOutcome.GONE, "its deadline passed"
        return SubmissionResult(request.request_id, outcome, reason) if reason else None


def seconds_left(request: QueuedRequest) -> float:
    """Seconds until nobody waits any more; negative after that."""
    return request.deadline_unix_ms / 1000 - time.time()
