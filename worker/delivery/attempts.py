"""Attempts that are on this worker, and what of their output may leave."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from services.core.delivery import RequestDelta
from services.core.request import FinishReason, QueuedRequest
from worker.delivery.outbox import merge_deltas
from worker.engine.port import SequenceOutput


class AttemptPhase(enum.Enum):
    """Where an attempt stands.

    ATTACHING: the owner has not answered; output is held back.
    DELIVERING: the owner takes output.
    STOPPED: nobody takes output any more; only the engine's last word is awaited.
    """

    ATTACHING = "attaching"
    DELIVERING = "delivering"
    STOPPED = "stopped"


class Attempt:
    """One attempt. One owner: the event loop."""

    def __init__(self, request: QueuedRequest, handle: int) -> None:
        self.request = request
        self.handle = handle
        # Not the request id alone: a stopped attempt may be in the engine when it comes again.
        self.seq_id = f"{request.request_id}#{handle}"
        self.phase = AttemptPhase.ATTACHING
        self.is_in_engine = False
        self._held: list[RequestDelta] = []

    @property
    def key(self) -> tuple[str, int]:
        """What the rest of the cluster calls it."""
        return self.request.request_id, self.request.attempt

    @property
    def is_delivering(self) -> bool:
        """Whether output leaves at once."""
        return self.phase is AttemptPhase.DELIVERING

    def take(self, output: SequenceOutput) -> RequestDelta | None:
        """What the owner gets of an output now; None while it is held back, or if nobody waits."""
        if self.phase is AttemptPhase.STOPPED:
            return None
        delta = RequestDelta(
            handle=self.handle,
            first_position=output.first_position,
            token_ids=output.token_ids,
            finish_reason=output.finish_reason,
            error_message=output.error_message,
            cached_tokens=output.cached_tokens,
            logprobs=output.logprobs,
            prompt_logprobs=output.prompt_logprobs,
        )
        if self.phase is AttemptPhase.DELIVERING:
            return delta
        self._held.append(delta)
        return None

    def deliver(self) -> RequestDelta | None:
        """The owner said yes: returns what was held back, if anything."""
        assert self.phase is AttemptPhase.ATTACHING, "attached twice"
        self.phase = AttemptPhase.DELIVERING
        held, self._held = self._held, []
        return merge_deltas(held) if held else None

    def goodbye(self) -> RequestDelta:
        """Says that it ends here; its owner queues the next one."""
        return RequestDelta(self.handle, 0, (), FinishReason.CANCELLED)

    def stop(self) -> None:
        """Nobody waits. Twice is safe."""
        self.phase = AttemptPhase.STOPPED
        self._held = []


class _HasAttempt(Protocol):
    @property
    def attempt(self) -> Attempt: ...


T = TypeVar("T", bound=_HasAttempt)


class AttemptTable(Generic[T]):
    """All attempts here, found by each of their names."""

    def __init__(self) -> None:
        self._by_seq: dict[str, T] = {}
        self._by_handle: dict[int, T] = {}
        self._live_by_key: dict[tuple[str, int], T] = {}

    def __len__(self) -> int:
        return len(self._by_seq)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._by_seq.values()))

    def add(self, entry: T) -> None:
        """Adds an attempt that is not here."""
        attempt = entry.attempt
        assert attempt.key not in self._live_by_key, "an attempt is here once"
        self._by_seq[attempt.seq_id] = entry
        self._by_handle[attempt.handle] = entry
        self._live_by_key[attempt.key] = entry

    def of_key(self, request_id: str, attempt: int) -> T | None:
        """The attempt, unless it was stopped."""
        return self._live_by_key.get((request_id, attempt))

    def of_seq(self, seq_id: str) -> T | None:
        """The attempt that a sequence belongs to."""
        return self._by_seq.get(seq_id)

    def of_handle(self, handle: int) -> T | None:
        """The attempt of a handle."""
        return self._by_handle.get(handle)

    def stop(self, entry: T) -> None:
        """Stops it; from now on the same attempt may come again. Twice is safe."""
        entry.attempt.stop()
        self._unname(entry)

    def remove(self, entry: T) -> None:
        """Forgets it. Twice is safe."""
        self._by_seq.pop(entry.attempt.seq_id, None)
        self._by_handle.pop(entry.attempt.handle, None)
        self._unname(entry)

    def _unname(self, entry: T) -> None:
        if self._live_by_key.get(entry.attempt.key) is entry:
            del self._live_by_key[entry.attempt.key]
