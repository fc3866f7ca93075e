"""Who gives way when a gateway is full. Pure.

Batch requests that wait go first; then those that wait of tenants over their share; then the
newcomer. What a worker runs already is never given up for a newcomer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from services.core.request import RequestClass


@dataclass(frozen=True, slots=True)
class Standing:
    """A request as overload sees it; has_begun: a worker delivers for it, or has."""

    request_id: str
    tenant: str
    request_class: RequestClass
    has_begun: bool = False


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Who wants in, with how many requests."""

    tenant: str
    request_class: RequestClass
    num_requests: int = 1


def choose_losses(
    standing: Sequence[Standing], newcomer: Newcomer, *, max_requests: int
) -> list[str] | None:
    """Ids of the requests that give way; None: the newcomer does.

    The latest arrivals give way first. A tenant's share is an equal part of max_requests among
    those that are here, the newcomer's included; nobody is pushed below it.

    Args:
        standing: all that are here, oldest first.
        newcomer: not among them.
        max_requests: that may be here.
    """
    num_needed = len(standing) + newcomer.num_requests - max_requests
    losses: list[str] = []
    latest_first = [one for one in reversed(standing) if not one.has_begun]
    if newcomer.request_class is not RequestClass.BATCH:
        batch = [one for one in latest_first if one.request_class is RequestClass.BATCH]
        losses = [one.request_id for one in batch[: max(0, num_needed)]]
    lost = set(losses)
    held = Counter(one.tenant for one in standing if one.request_id not in lost)
    share = max_requests / len(held.keys() | {newcomer.tenant})
    if held[newcomer.tenant] + newcomer.num_requests <= share:
        waiting = [one for one in latest_first if one.request_id not in lost]
        while len(losses) < num_needed:
            over = [one for one in waiting if held[one.tenant] > share]
            if not over:
                break
            # Of equals the latest: max keeps the first that it finds.
            loser = max(over, key=lambda one: held[one.tenant])
            waiting.remove(loser)
            held[loser.tenant] -= 1
            losses.append(loser.request_id)
    return losses if len(losses) >= num_needed else None
