"""Requests for the scheduler's tests."""

from __future__ import annotations

import time
from collections.abc import Sequence

from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.request import QueuedRequest, RequestClass
from services.core.sampling import SamplingParams
from services.scheduler.order import HeldRequest
from services.wire.subjects import lane_of

MODEL = "model.of tests"
TENANT = "tenant"
LANE = lane_of(RequestClass.INTERACTIVE, 1, TENANT)
NOW_MS = 1_000_000
CLASSES = list(RequestClass)


def queued(
    request_id: str,
    *,
    attempt: int = 1,
    request_class: RequestClass = RequestClass.INTERACTIVE,
    num_prompt_tokens: int = 10,
    deadline_unix_ms: int | None = None,
    tenant: str = TENANT,
) -> QueuedRequest:
    now_ms = int(time.time() * 1000)
    return QueuedRequest(
        request_id=request_id,
        attempt=attempt,
        model=MODEL,
        prompt_token_ids=tuple(range(num_prompt_tokens)),
        sampling=SamplingParams(max_tokens=8, seed=1),
        tenant=tenant,
        session_id="",
        deadline_unix_ms=now_ms + 60_000 if deadline_unix_ms is None else deadline_unix_ms,
        reply_to="127.0.0.1:1",
        request_class=request_class,
        accepted_unix_ms=now_ms,
    )


def held(
    request_id: str,
    *,
    attempt: int = 1,
    request_class: RequestClass = RequestClass.INTERACTIVE,
    num_prompt_tokens: int = 10,
    deadline_unix_ms: int = NOW_MS + 60_000,
    position: int = 0,
    held_since_s: float = 0.0,
    num_failures: int = 0,
    tenant: str = TENANT,
) -> HeldRequest:
    request = queued(
        request_id,
        attempt=attempt,
        request_class=request_class,
        num_prompt_tokens=num_prompt_tokens,
        deadline_unix_ms=deadline_unix_ms,
        tenant=tenant,
    )
    return HeldRequest(
        request,
        lane_of(request_class, attempt, request.tenant),
        position,
        held_since_s,
        num_failures,
    )


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 if all shares are equal, 1 / n if one has all."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def load(
    *,
    max_requests: int = 8,
    num_running: int = 0,
    num_waiting: int = 0,
    num_prefill_tokens: int = 0,
) -> WorkerLoad:
    return WorkerLoad(max_requests, num_running, num_waiting, 100, 100, 16, num_prefill_tokens)


def heartbeat(
    worker_id: str = "w1",
    idx: int = 1,
    *,
    state: WorkerState = WorkerState.READY,
    load: WorkerLoad = load(),  # noqa: B008
) -> WorkerHeartbeat:
    return WorkerHeartbeat(worker_id, f"{worker_id}:1", MODEL, state, idx, load)
