"""Which worker gets a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FULL_PREFILL_TOKENS = 8_192
"""Prompt tokens waiting for prefill that weigh as much as a worker full of requests: some seconds
of prefill on a small machine, about the time a full worker takes to free a place."""


@dataclass(slots=True)
class Candidate:
    """A worker as placement sees it, counting what is on its way there.

    Attributes:
        num_requests: running, waiting and on their way.
        num_prefill_tokens: prompt tokens accepted or on their way, not yet computed.
        placed_idx: when it was last given something; lower is longer ago.
    """

    worker_id: str
    max_requests: int
    num_requests: int
    num_prefill_tokens: int
    placed_idx: int

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

    def take(self, num_prompt_tokens: int, placed_idx: int) -> None:
        """Counts one more request."""
        self.num_requests += 1
        self.num_prefill_tokens += num_prompt_tokens
        self.placed_idx = placed_idx


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
