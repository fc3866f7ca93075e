"""Which held requests go together, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.scheduler.order import HeldRequest
from services.scheduler.placement import Candidate, LeastLoaded, Placement, PlacementPolicy, Score


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of a batch.

    Attributes:
        max_batch_size: most requests.
        max_prefill_tokens: most prompt tokens to compute together; one larger prompt goes alone.
        max_wait_s: how long the oldest request may be held back so that a batch fills.
        waits_while_idle: hold back even while a worker has nothing to do.
    """

    max_batch_size: int = 8
    max_prefill_tokens: int = 2_048
    max_wait_s: float = 0.0
    waits_while_idle: bool = False


@dataclass(slots=True)
class Batch:
    """Requests for one worker, in their order.

    Attributes:
        missing_tokens: of each request, the prompt tokens that the worker is expected to compute.
        scores: of each request, what the policy thought of the workers.
        is_followed: another batch for the same worker goes out at the same moment, so that what
            this one leaves of its budget is wasted.
    """

    worker_id: str
    requests: list[HeldRequest] = field(default_factory=list[HeldRequest])
    missing_tokens: list[int] = field(default_factory=list[int])
    scores: list[Sequence[Score]] = field(default_factory=list[Sequence[Score]])
    is_followed: bool = False

    @property
    def num_missing_tokens(self) -> int:
        """Prompt tokens that the worker is expected to compute."""
        return sum(self.missing_tokens)

    def fits(self, entry: HeldRequest, num_missing: int, limits: BatchLimits) -> bool:
        """Whether one more, of which so many tokens are to be computed, stays within the limits.

        A request that already saw a submission fail goes alone: if it is the cause, it takes no
        other with it again.
        """
        if not self.requests:
            return True
        if entry.num_failures or self.requests[0].num_failures:
            return False
        return (
            len(self.requests) < limits.max_batch_size
            and self.num_missing_tokens + num_missing <= limits.max_prefill_tokens
        )

    def add(self, entry: HeldRequest, placement: Placement) -> None:
        """One more request, placed here."""
        self.requests.append(entry)
        self.missing_tokens.append(placement.num_missing_tokens)
        self.scores.append(placement.scores)

    def waste(self, limits: BatchLimits) -> float:
        """Share of the prefill budget that it leaves unused."""
        return max(0.0, 1.0 - self.num_missing_tokens / limits.max_prefill_tokens)


def seconds_until_due(
    ready: Sequence[HeldRequest], limits: BatchLimits, *, has_idle_worker: bool, now_s: float
) -> float:
    """How long to hold `ready` back so that a batch fills; 0: send now."""
    if not ready or limits.max_wait_s <= 0:
        return 0.0
    if has_idle_worker and not limits.waits_while_idle:
        return 0.0
    if len(ready) >= limits.max_batch_size or any(entry.is_resume for entry in ready):
        return 0.0
    if sum(entry.num_prompt_tokens for entry in ready) >= limits.max_prefill_tokens:
        return 0.0
    oldest_s = min(entry.held_since_s for entry in ready)
    return max(0.0, oldest_s + limits.max_wait_s - now_s)


@dataclass(frozen=True, slots=True)
class Formed:
    """What came of one look at all that waits.

    Attributes:
        batches: to be submitted now.
        too_late: placed now, their first token would still come after their deadline.
    """

    batches: tuple[Batch, ...]
    too_late: tuple[HeldRequest, ...]


def form_batches(
    ready: Sequence[HeldRequest],
    candidates: Sequence[Candidate],
    limits: BatchLimits,
    policy: PlacementPolicy | None = None,
    now_s: float = 0.0,
    now_unix_ms: int = 0,
) -> Formed:
    """Packs requests, in order, into batches for the workers that a policy chooses.

    A request goes into the first batch for its worker that has room for the tokens that are to be
    computed of it, so that short prompts fill what long ones leave; all batches leave at the same
    moment, so nobody is overtaken by more than a call. One call places everything for which workers
    have places; the rest stays held.

    Under more load than the workers can carry all that goes out would be late, and nothing of what
    they do worth anything: what cannot begin in time is therefore sorted out before it costs a
    worker anything. Not a resumed request, whose client reads already.

    Args:
        ready: in the order of urgency.
        candidates: counted up as they are given requests.
        limits: of each batch.
        policy: chooses the workers; the least loaded ones if None.
        now_s: the scheduler's clock.
        now_unix_ms: the clock of deadlines.
    """
    policy = policy or LeastLoaded()
    placed_idx = max((candidate.placed_idx for candidate in candidates), default=0)
    num_free = sum(candidate.num_free for candidate in candidates)
    by_worker: dict[str, list[Batch]] = {}
    too_late: list[HeldRequest] = []
    for entry in ready:
        if num_free <= 0:
            break
        placement = policy.choose(entry, candidates, now_s)
        if placement is None:
            continue
        candidate, num_missing = placement.candidate, placement.num_missing_tokens
        left_s = (entry.request.deadline_unix_ms - now_unix_ms) / 1000
        if not entry.is_resume and candidate.is_too_late(
            entry.num_prompt_tokens, num_missing, left_s
        ):
            too_late.append(entry)
            continue
        placed_idx += 1
        num_free -= 1
        candidate.take(num_missing, placed_idx)
        batches = by_worker.setdefault(candidate.worker_id, [])
        fitting = (batch for batch in batches if batch.fits(entry, num_missing, limits))
        batch = next(fitting, None)
        if batch is None:
            batch = Batch(candidate.worker_id)
            batches.append(batch)
        batch.add(entry, placement)
    for batches in by_worker.values():
        for batch in batches[:-1]:
            batch.is_followed = True
    formed = tuple(batch for batches in by_worker.values() for batch in batches)
    return Formed(formed, tuple(too_late))
