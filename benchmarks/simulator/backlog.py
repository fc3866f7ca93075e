"""The request queue: lanes, each first in, first out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import cast

from benchmarks.simulator.trace import TraceRequest
from services.core.blocks import BlockHash
from services.core.request import QueuedRequest
from services.core.sampling import SamplingParams
from services.scheduler.order import HeldRequest
from services.scheduler.queue.pull_plan import Demand, LaneState, plan_pulls
from services.wire.subjects import lane_of

_MS = 1000.0


class Backlog:
    """What no scheduler has pulled yet; positions are the indices of the trace."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[HeldRequest]] = {}
        self._num_entries = 0

    def __len__(self) -> int:
        return self._num_entries

    @property
    def depths(self) -> Mapping[str, int]:
        """Requests by lane."""
        return {lane: len(entries) for lane, entries in self._lanes.items()}

    def push(
        self,
        request_idx: int,
        request: TraceRequest,
        block_hashes: tuple[BlockHash, ...],
        deadline_s: float,
    ) -> None:
        """Queues a request."""
        lane = lane_of(request.request_class, 1, request.tenant)
        queued = QueuedRequest(
            request_id=str(request_idx),
            attempt=1,
            model="",
            # Only its length counts here, and a range takes no memory.
            prompt_token_ids=cast(tuple[int, ...], range(request.num_prompt)),
            sampling=SamplingParams(max_tokens=request.num_output),
            tenant=request.tenant,
            session_id="",
            deadline_unix_ms=round((request.arrival_s + deadline_s) * _MS),
            reply_to="",
            request_class=request.request_class,
            accepted_unix_ms=round(request.arrival_s * _MS),
        )
        self._lanes.setdefault(lane, deque()).append(
            HeldRequest(queued, lane, request_idx, request.arrival_s, block_hashes=block_hashes)
        )
        self._num_entries += 1

    def pull(self, demand: Demand) -> list[HeldRequest]:
        """Takes what a scheduler's plan asks for. Empty lanes are asked of nothing."""
        states = [LaneState(lane) for lane, entries in self._lanes.items() if entries]
        pulled: list[HeldRequest] = []
        for state, num_wanted in plan_pulls(states, demand):
            entries = self._lanes[state.name]
            for _ in range(min(len(entries), num_wanted)):
                pulled.append(entries.popleft())
        self._num_entries -= len(pulled)
        return pulled
