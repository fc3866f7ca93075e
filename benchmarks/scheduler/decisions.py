"""What single decisions cost, without anything around them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.queue.queue_watch import QueueWatch
from services.core.blocks import BLOCK_HASH_BYTES, BlockHash
from services.core.errors import Overloaded
from services.core.kv_events import KvSnapshot
from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.percentile import percentile
from services.core.queue_status import BandStatus, QueueStatus
from services.core.request import QueuedRequest, RequestClass
from services.core.sampling import SamplingParams
from services.scheduler.batching import BatchLimits, form_batches
from services.scheduler.fleet.fleet import Fleet
from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.order import FairOrder, HeldRequest
from services.scheduler.policies.tokenmill import TokenmillPolicy
from services.wire.subjects import lane_of

MODEL = "bench"
BLOCK_SIZE = 32
_NUM_WARM_UP = 50


@dataclass(frozen=True, slots=True)
class DecisionPlan:
    """How much is decided.

    Attributes:
        num_workers: of the fleet.
        num_blocks: that the index knows of, over all workers.
        num_prompt_blocks: of each prompt, half of them held by some worker.
        num_decisions: that are timed, each alone.
    """

    num_workers: int = 64
    num_blocks: int = 1_000_000
    num_prompt_blocks: int = 256
    num_decisions: int = 2_000


def measure_decisions(plan: DecisionPlan) -> dict[str, Any]:
    """Times placements, each from the fleet's state to a batch, and refusals.

    Returns:
        Microseconds: `place_us` of one request alone, `refuse_us` of one that the gateway refuses
        because its deadline is too near, `expire_us` of one that the scheduler gives up.
    """
    chance = random.Random(0)
    fleet, index = Fleet(1e9), KvIndex(2 * plan.num_blocks)
    held: list[list[BlockHash]] = []
    per_worker = plan.num_blocks // plan.num_workers
    for worker_idx in range(plan.num_workers):
        worker_id = f"worker-{worker_idx:04}"
        fleet.hear(_heartbeat(worker_id, chance), 0.0)
        hashes = [_hash(worker_idx, block_idx) for block_idx in range(per_worker)]
        index.replace(KvSnapshot(worker_id, 1, 1, tuple(hashes)))
        held.append(hashes)
    policy, limits = TokenmillPolicy(index), BatchLimits()

    def place() -> Callable[[], object]:
        worker = chance.choice(held)
        begin = chance.randrange(max(1, per_worker - plan.num_prompt_blocks))
        known = worker[begin : begin + plan.num_prompt_blocks // 2]
        fresh = [chance.randbytes(BLOCK_HASH_BYTES) for _ in range(plan.num_prompt_blocks // 2)]
        entry = HeldRequest(
            bench_request(plan.num_prompt_blocks * BLOCK_SIZE),
            lane_of(RequestClass.INTERACTIVE, 1, "tenant"),
            0,
            0.0,
            block_hashes=(*known, *fresh),
        )
        return lambda: form_batches([entry], fleet.candidates(1.0), limits, policy, 1.0)

    return {
        "place_us": _timed(place, plan.num_decisions),
        "refuse_us": _timed(_refusals(), plan.num_decisions),
        "expire_us": _timed(_expiries(), plan.num_decisions),
        "workers": plan.num_workers,
        "indexed_blocks": len(index),
    }


def _refusals() -> Callable[[], Callable[[], object]]:
    """A queue that drains at 100/s with 10,000 requests of 64 lanes in it."""
    watch = QueueWatch()
    lanes = {lane_of(RequestClass.INTERACTIVE, 1, f"tenant-{idx}") for idx in range(64)}
    status = QueueStatus(
        MODEL,
        "scheduler",
        {"interactive": BandStatus(100.0, 100)},
        {lane: 10_000 // len(lanes) for lane in lanes},
    )
    watch.hear(status)
    request = replace(bench_request(2_000), deadline_unix_ms=int(time.time() * 1000))

    def refuse() -> None:
        try:
            watch.check_deadline(request)
        except Overloaded:
            return
        raise AssertionError("a request that cannot be served in time was let in")

    return lambda: refuse


def _expiries() -> Callable[[], Callable[[], object]]:
    """256 requests are held, one of which has passed its deadline."""
    order = FairOrder()
    lane = lane_of(RequestClass.INTERACTIVE, 1, "tenant")
    alive = bench_request(1_000)
    entries = [
        HeldRequest(replace(alive, request_id=str(idx)), lane, idx, 0.0) for idx in range(255)
    ]
    late = HeldRequest(replace(alive, deadline_unix_ms=1), lane, 255, 0.0)
    now_unix_ms = int(time.time() * 1000)

    def expire() -> None:
        ordered = order.order([*entries, late], now_unix_ms=now_unix_ms, now_s=1.0)
        assert len(ordered.expired) == 1

    return lambda: expire


def _timed(make: Callable[[], Callable[[], object]], num_times: int) -> dict[str, float]:
    seconds: list[float] = []
    for _ in range(_NUM_WARM_UP + num_times):
        run = make()
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    counted: Sequence[float] = seconds[_NUM_WARM_UP:]
    return {
        name: round(1e6 * percentile(counted, share), 1)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    }


def _hash(worker_idx: int, block_idx: int) -> BlockHash:
    return (worker_idx << 40 | block_idx | 1 << 63).to_bytes(BLOCK_HASH_BYTES, "little")


def bench_request(num_prompt_tokens: int) -> QueuedRequest:
    """Any request with a prompt of this length."""
    now_ms = int(time.time() * 1000)
    return QueuedRequest(
        request_id="r",
        attempt=1,
        model=MODEL,
        prompt_token_ids=tuple(range(num_prompt_tokens)),
        sampling=SamplingParams(max_tokens=64),
        tenant="tenant",
        session_id="",
        deadline_unix_ms=now_ms + 600_000,
        reply_to="127.0.0.1:1",
        request_class=RequestClass.INTERACTIVE,
        accepted_unix_ms=now_ms,
    )


def _heartbeat(worker_id: str, chance: random.Random) -> WorkerHeartbeat:
    load = WorkerLoad(
        max_requests=128,
        num_running=chance.randint(0, 60),
        num_waiting=chance.randint(0, 3),
        num_free_blocks=chance.randint(2_000, 16_000),
        num_blocks=16_000,
        block_size=BLOCK_SIZE,
        num_pending_prefill_tokens=chance.randint(0, 8_000),
        max_running=64,
    )
    return WorkerHeartbeat(worker_id, worker_id, MODEL, WorkerState.READY, 1, load)
