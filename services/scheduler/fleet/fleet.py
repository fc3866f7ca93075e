"""The workers, as their heartbeats and their answers tell."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.step_time import StepTimeModel
from services.scheduler.placement import DEFAULT_STEP_TIME, Candidate

FORGET_AFTER_TIMEOUTS = 15
"""A worker silent for so many heartbeat timeouts is dropped from memory."""

SEEN_AFTER_S = 0.25
"""A heartbeat that arrives so long after a submission left counts it already: worker and network
need milliseconds. Until then it is counted here, at worst twice."""

MAX_IDX_LAG = 64
"""A heartbeat that is further behind than this is no late one: its worker was started again under
the same name."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A submission on its way to a worker.

    Attributes:
        num_prompt_tokens: those that the worker is expected to compute.
    """

    worker_id: str
    num_requests: int
    num_prompt_tokens: int
    sent_s: float


@dataclass(slots=True)
class _Worker:
    heartbeat: WorkerHeartbeat
    load: WorkerLoad
    heard_s: float
    placed_idx: int
    is_suspect: bool = False
    is_lost: bool = False
    in_flight: list[Ticket] = field(default_factory=list)
    num_requests_in_flight: int = 0
    num_tokens_in_flight: int = 0

    def recount(self) -> None:
        """After `in_flight` changed; asked for far more often than it changes."""
        self.num_requests_in_flight = sum(ticket.num_requests for ticket in self.in_flight)
        self.num_tokens_in_flight = sum(ticket.num_prompt_tokens for ticket in self.in_flight)


class Fleet:
    """What is known of every worker of one model. Time comes in as an argument, in seconds.

    Args:
        heartbeat_timeout_s: a worker silent for longer is given nothing.
        salt: differs between schedulers, so that they do not all begin with the same worker.
    """

    def __init__(self, heartbeat_timeout_s: float, salt: str = "") -> None:
        self._timeout_s = heartbeat_timeout_s
        self._salt = salt
        self._workers: dict[str, _Worker] = {}
        self._step_times: dict[str, StepTimeModel] = {}
        self._default_step_time = DEFAULT_STEP_TIME
        self._num_placed = 0
        self._foreign: frozenset[str] = frozenset()

    @property
    def worker_ids(self) -> list[str]:
        """All workers that are remembered, lost ones included."""
        return list(self._workers)

    def set_foreign(self, worker_ids: frozenset[str]) -> None:
        """Workers that other schedulers look after first, from now on."""
        self._foreign = worker_ids

    def set_step_time(self, worker_id: str, model: StepTimeModel) -> None:
        """How long the worker's steps take. One that has not told is taken for the last that did.

        Not for some default of ours: that may be a hundred times faster than all that measured,
        and would then be given everything.
        """
        self._step_times[worker_id] = self._default_step_time = model

    def hear(self, heartbeat: WorkerHeartbeat, now_s: float) -> bool:
        """Takes a worker's word.

        Returns:
            True if the worker was unknown, lost or suspect until now.
        """
        if heartbeat.step_time is not None:
            self.set_step_time(heartbeat.worker_id, heartbeat.step_time)
        worker = self._workers.get(heartbeat.worker_id)
        if worker is None:
            self._workers[heartbeat.worker_id] = _Worker(
                heartbeat,
                heartbeat.load,
                now_s,
                placed_idx=-zlib.crc32(f"{self._salt}/{heartbeat.worker_id}".encode()),
            )
            return True
        lag = worker.heartbeat.heartbeat_idx - heartbeat.heartbeat_idx
        if 0 <= lag <= MAX_IDX_LAG and now_s - worker.heard_s <= self._timeout_s:
            return False
        was_away = worker.is_lost or worker.is_suspect
        worker.heartbeat = heartbeat
        worker.load = heartbeat.load
        worker.heard_s = now_s
        worker.is_lost = worker.is_suspect = False
        worker.in_flight = [
            ticket for ticket in worker.in_flight if now_s - ticket.sent_s < SEEN_AFTER_S
        ]
        worker.recount()
        return was_away

    def candidates(self, now_s: float) -> list[Candidate]:
        """The workers that may be given requests, full ones included."""
        times, default, foreign = self._step_times, self._default_step_time, self._foreign
        found: list[Candidate] = []
        for worker_id, worker in self._workers.items():
            if not self._is_routable(worker, now_s):
                continue
            load, num_on_their_way = worker.load, worker.num_requests_in_flight
            # By position: this is built for every worker at every decision.
            found.append(
                Candidate(
                    worker_id,
                    load.max_requests,
                    load.num_running + load.num_waiting + num_on_their_way,
                    load.num_pending_prefill_tokens + worker.num_tokens_in_flight,
                    worker.placed_idx,
                    load.num_running,
                    load.num_waiting + num_on_their_way,
                    load.num_free_blocks,
                    load.num_blocks,
                    load.block_size,
                    times.get(worker_id, default),
                    load.max_running,
                    worker.heartbeat.cache_block_s,
                    worker.heartbeat.itl_target_s,
                    worker_id in foreign,
                )
            )
        return found

    def address_of(self, worker_id: str) -> str:
        """Where the worker listens.

        Raises:
            KeyError: no such worker.
        """
        return self._workers[worker_id].heartbeat.address

    def addresses(self) -> set[str]:
        """Addresses of all workers that are remembered, lost ones included."""
        return {worker.heartbeat.address for worker in self._workers.values()}

    def submit(
        self, worker_id: str, *, num_requests: int, num_prompt_tokens: int, now_s: float
    ) -> Ticket:
        """Counts a submission that leaves now; settle it with answer() or fail()."""
        ticket = Ticket(worker_id, num_requests, num_prompt_tokens, now_s)
        worker = self._workers[worker_id]
        worker.in_flight.append(ticket)
        worker.recount()
        self._num_placed += num_requests
        worker.placed_idx = self._num_placed
        return ticket

    def answer(self, ticket: Ticket, load: WorkerLoad, *, refused: bool) -> None:
        """Takes the worker's answer, whose load counts the submission.

        A worker that refused is full or draining, whatever its load says: it is given nothing until
        its next heartbeat.
        """
        worker = self._land(ticket)
        if worker is not None:
            worker.load = load
            worker.is_suspect |= refused

    def fail(self, ticket: Ticket, *, is_suspect: bool) -> None:
        """No answer came. A suspect worker is given nothing until its next heartbeat."""
        worker = self._land(ticket)
        if worker is not None:
            worker.is_suspect |= is_suspect

    def sweep(self, now_s: float) -> list[str]:
        """Names workers that fell silent since the last call, and forgets the long silent."""
        lost: list[str] = []
        for worker_id, worker in list(self._workers.items()):
            silence_s = now_s - worker.heard_s
            if silence_s > self._timeout_s and not worker.is_lost:
                worker.is_lost = True
                lost.append(worker_id)
            if silence_s > self._timeout_s * FORGET_AFTER_TIMEOUTS and not worker.in_flight:
                del self._workers[worker_id]
                self._step_times.pop(worker_id, None)
        return lost

    def _is_routable(self, worker: _Worker, now_s: float) -> bool:
        return (
            not worker.is_suspect
            and worker.heartbeat.state is WorkerState.READY
            and now_s - worker.heard_s <= self._timeout_s
        )

    def _land(self, ticket: Ticket) -> _Worker | None:
        worker = self._workers.get(ticket.worker_id)
        if worker is not None and ticket in worker.in_flight:
            worker.in_flight.remove(ticket)
            worker.recount()
        return worker


def num_free(candidates: Iterable[Candidate]) -> int:
    """Requests that all of them together can still take."""
    return sum(candidate.num_free for candidate in candidates)
