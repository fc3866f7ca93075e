"""The worker's word on itself, to all schedulers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import nats.errors

from services.core.kv_events import KvState
from services.core.load import TenantOutput, WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.step_time import StepTimeModel
from services.runtime.logs import get_logger
from services.wire.heartbeat import encode_heartbeat
from services.wire.subjects import heartbeat_subject
from worker.reports.load_signal import LoadSignal

log = get_logger(__name__)

MIN_GAP_S = 0.01
"""Changes closer together go out as one heartbeat."""


class Publisher(Protocol):
    """The part of a bus that heartbeats need."""

    async def publish(self, subject: str, payload: bytes) -> None:
        """Best effort, returns at once."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """Who speaks."""

    worker_id: str
    address: str
    model: str


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a heartbeat says beside state and load; fields as in WorkerHeartbeat."""

    kv: KvState | None = None
    step_time: StepTimeModel | None = None
    outputs: tuple[TenantOutput, ...] = ()
    cache_block_s: float = 0.0
    itl_target_s: float = 0.0


def worker_state(
    *, is_draining: bool, seconds_since_progress: float, stall_after_s: float
) -> WorkerState:
    """Health is progress: a worker whose steps do not end is not ready, however alive it looks."""
    if is_draining:
        return WorkerState.DRAINING
    if seconds_since_progress > stall_after_s:
        return WorkerState.STALLED
    return WorkerState.READY


class Heart:
    """Beats at an interval, and at once when the load changes.

    Args:
        identity: who speaks.
        publisher: where heartbeats go.
        load_signal: says that the load changed.
        load: the load now.
        facts: what else is said now.
        state: the state now.
        state_changed: called with each new state, READY included; the health service hears it.
        interval_s: longest silence.
    """

    def __init__(
        self,
        identity: WorkerIdentity,
        publisher: Publisher,
        load_signal: LoadSignal,
        *,
        load: Callable[[], WorkerLoad],
        facts: Callable[[], WorkerFacts] = WorkerFacts,
        state: Callable[[], WorkerState],
        state_changed: Callable[[WorkerState], Awaitable[None]],
        interval_s: float,
    ) -> None:
        self._identity = identity
        self._publisher = publisher
        self._load_signal = load_signal
        self._load = load
        self._facts = facts
        self._state = state
        self._state_changed = state_changed
        self._interval_s = interval_s
        self._last_state: WorkerState | None = None
        # Above all that an earlier process under the same name can have sent: a worker that was
        # restarted must not be taken for an old message of itself.
        self._beat_idx = time.time_ns() // 1_000_000

    async def beat(self) -> None:
        """One heartbeat now."""
        state, facts = self._state(), self._facts()
        self._beat_idx += 1
        heartbeat = WorkerHeartbeat(
            worker_id=self._identity.worker_id,
            address=self._identity.address,
            model=self._identity.model,
            state=state,
            heartbeat_idx=self._beat_idx,
            load=self._load(),
            kv=facts.kv,
            step_time=facts.step_time,
            outputs=facts.outputs,
            cache_block_s=facts.cache_block_s,
            itl_target_s=facts.itl_target_s,
        )
        subject = heartbeat_subject(self._identity.model, self._identity.worker_id)
        try:
            await self._publisher.publish(subject, encode_heartbeat(heartbeat))
        except (nats.errors.Error, OSError) as exc:
            # The broker went away just now: the next beat tells it all again.
            log.warning("heartbeat.failed", error=repr(exc))
        if state is not self._last_state:
            log.info("worker.state_changed", state=state.value)
            self._last_state = state
            await self._state_changed(state)

    async def run(self) -> None:
        """Beats for ever."""
        while True:
            await self.beat()
            await asyncio.sleep(MIN_GAP_S)
            await self._load_signal.wait(self._interval_s - MIN_GAP_S)
