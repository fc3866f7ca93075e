"""Which worker gets a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.core.step_time import StepTimeModel
from services.scheduler.order import HeldRequest

FULL_PREFILL_TOKENS = 8_192
"""Prompt tokens waiting for prefill that weigh as much as a worker full of requests: some seconds
of prefill on a small machine, about the time a full worker takes to free a place."""


COSTLY = 10.0
"""A request whose own prompt takes a tenth of the time that is left counts a wait twice."""

DEFAULT_STEP_TIME = StepTimeModel()


@dataclass(slots=True)
class Candidate:
    """A worker as placement sees it, counting what is on its way there.

    Attributes:
        num_requests: running, waiting and on their way.
        num_prefill_tokens: prompt tokens accepted or on their way, not yet computed.
        placed_idx: when it was last given something; lower is longer ago.
        num_running: in the running batch, by its own word.
        num_waiting: waiting or on their way.
        num_free_blocks: K/V blocks not held by a running sequence.
        num_blocks: K/V blocks of its pool; 0 if not known.
        max_running: requests that its running batch can hold; 0 if not known.
        step_time: how long its steps take.
        cache_block_s: time to bring one block from the cache service; 0: it has none.
        itl_target_s: how long its steps may take while prompts are computed beside decodes; 0: as
            long as they take.
        is_foreign: another scheduler looks after it first.
    """

    worker_id: str
    max_requests: int
    num_requests: int
    num_prefill_tokens: int
    placed_idx: int
    num_running: int = 0
    num_waiting: int = 0
    num_free_blocks: int = 0
    num_blocks: int = 0
    block_size: int = 32
    step_time: StepTimeModel = DEFAULT_STEP_TIME
    max_running: int = 0
    cache_block_s: float = 0.0
    itl_target_s: float = 0.0
    is_foreign: bool = False

    @property
    def num_free(self) -> int:
        """Requests that it can still take."""
        return max(0, self.max_requests - self.num_requests)

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.num_requests == 0

    @property
    def load(self) -> float:
        """0 when idle; 1 when full of requests or of prefill, 2 when of both."""
        return (
            self.num_requests / max(1, self.max_requests)
            + self.num_prefill_tokens / FULL_PREFILL_TOKENS
        )

    def is_too_late(self, num_prompt: int, num_missing: int, left_s: float) -> bool:
        """Whether a request given now would miss its first token's deadline here.

        What waits before it counts the more, the more of the time left its own prompt takes: where
        queues stand not all can be answered, and whoever needs least leaves most for the others.
        On a worker without a queue only its own prompt counts.

        Args:
            num_prompt: its prompt tokens.
            num_missing: those that are to be computed.
            left_s: until the deadline.
        """
        model = self.step_time
        num_held = (self.num_blocks - self.num_free_blocks) * self.block_size
        token_s = model.prefill_token_s(self.num_running, num_held)
        own_s = num_missing * (token_s + model.prefill_pair_s * (num_prompt - num_missing / 2))
        wait_s = token_s * self.num_prefill_tokens
        return own_s >= left_s or wait_s * (1 + COSTLY * own_s / left_s) > left_s - own_s

    def take(self, num_missing_tokens: int, placed_idx: int) -> None:
        """Counts one more request, of which so many prompt tokens must be computed."""
        self.num_requests += 1
        self.num_waiting += 1
        self.num_prefill_tokens += num_missing_tokens
        self.placed_idx = placed_idx


@dataclass(frozen=True, slots=True)
class Score:
    """What a policy thought of a worker.

    Attributes:
        cost_s: time that the request would cost there; the least wins.
        num_missing_tokens: prompt tokens that the worker would have to compute.
    """

    worker_id: str
    cost_s: float
    num_missing_tokens: int


@dataclass(frozen=True, slots=True)
class Placement:
    """A worker for a request.

    Attributes:
        num_missing_tokens: prompt tokens that the worker will have to compute.
        scores: of the workers that had room, in no order; empty if the policy has none to tell, or
            if there are too many workers to list.
    """

    candidate: Candidate
    num_missing_tokens: int
    scores: Sequence[Score] = ()


class PlacementPolicy(Protocol):
    """Chooses workers. One object per scheduler; it may remember what it chose."""

    def choose(
        self, entry: HeldRequest, candidates: Sequence[Candidate], now_s: float
    ) -> Placement | None:
        """The worker that gets the request now, with room for it; None: hold the request."""
        ...


def least_loaded(candidates: Iterable[Candidate]) -> Candidate | None:
    """The least loaded with room, or None.

    Equals go to the one that was given something longest ago: schedulers that see the same idle
    fleet do not all run to the first worker of the list.
    """
    return min(
        (candidate for candidate in candidates if candidate.num_free > 0),
        key=lambda candidate: (candidate.load, candidate.placed_idx, candidate.worker_id),
        default=None,
    )


class LeastLoaded:
    """The least loaded worker, wherever the prompt is cached."""

    def choose(
        self, entry: HeldRequest, candidates: Sequence[Candidate], now_s: float
    ) -> Placement | None:
        """The least loaded with room, or None."""
        candidate = least_loaded(candidates)
        return None if candidate is None else Placement(candidate, entry.num_prompt_tokens)
