"""Policies that do not ask where a prompt is cached."""

from __future__ import annotations

import random
from collections.abc import Sequence

from services.scheduler.order import HeldRequest
from services.scheduler.placement import Candidate, Placement


class Random:
    """Any worker with room."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def choose(
        self, entry: HeldRequest, candidates: Sequence[Candidate], now_s: float
    ) -> Placement | None:
        """A random one, or None."""
        free = [candidate for candidate in candidates if candidate.num_free > 0]
        if not free:
            return None
        return Placement(self._random.choice(free), entry.num_prompt_tokens)


class RoundRobin:
    """The worker that was given something longest ago, whatever its load."""

    def choose(
        self, entry: HeldRequest, candidates: Sequence[Candidate], now_s: float
    ) -> Placement | None:
        """The next in turn with room, or None."""
        candidate = min(
            (candidate for candidate in candidates if candidate.num_free > 0),
            key=lambda candidate: (candidate.placed_idx, candidate.worker_id),
            default=None,
        )
        return None if candidate is None else Placement(candidate, entry.num_prompt_tokens)
