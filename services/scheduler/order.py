"""Which held request goes next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.core.blocks import BlockHash
from services.core.request import QueuedRequest
from services.wire.subjects import LANES, RESUME_LANE

_RANKS = {lane: rank for rank, lane in enumerate(LANES)}

RequestKey = tuple[str, int]
"""Request id and attempt: what a redelivery has in common with the first delivery."""


@dataclass(frozen=True, slots=True)
class HeldRequest:
    """A request that was pulled from the queue and is not on a worker yet.

    Attributes:
        lane: where it waited; the resume lane goes before every class.
        queue_position: rises with arrival in the queue, over all lanes.
        held_since_s: when it was pulled, on the scheduler's clock.
        num_failures: submissions that failed without an answer from the worker.
        block_hashes: of the prompt's full blocks, first block first; empty if not known.
    """

    request: QueuedRequest
    lane: str
    queue_position: int
    held_since_s: float
    num_failures: int = 0
    block_hashes: tuple[BlockHash, ...] = ()

    @property
    def key(self) -> RequestKey:
        """Identity of this attempt."""
        return self.request.request_id, self.request.attempt

    @property
    def num_prompt_tokens(self) -> int:
        """What a worker may have to prefill."""
        return len(self.request.prompt_token_ids)

    @property
    def is_resume(self) -> bool:
        """Whether its client already waits longer than all first attempts."""
        return self.lane == RESUME_LANE


@dataclass(frozen=True, slots=True)
class Order:
    """Held requests, sorted.

    Attributes:
        ready: to be placed, the first first.
        expired: nobody waits for these any more.
    """

    ready: tuple[HeldRequest, ...]
    expired: tuple[HeldRequest, ...]


def rank_of(lane: str) -> int:
    """Urgency of a lane: 0 is the most urgent; an unknown lane is the least."""
    return _RANKS.get(lane, len(_RANKS))


def order(held: Iterable[HeldRequest], *, now_unix_ms: int) -> Order:
    """Resumed requests first, then by class, then by arrival; expired ones apart."""
    ready: list[HeldRequest] = []
    expired: list[HeldRequest] = []
    for entry in held:
        (expired if entry.request.deadline_unix_ms <= now_unix_ms else ready).append(entry)
    ready.sort(key=lambda entry: (rank_of(entry.lane), entry.queue_position, entry.key))
    return Order(tuple(ready), tuple(expired))
