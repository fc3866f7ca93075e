"""Which held request goes next: by band, between tenants, inside a tenant."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from services.core.blocks import BlockHash
from services.core.request import QueuedRequest
from services.scheduler.fairness import BandShares, FairnessRules, ServiceBook
from services.wire.subjects import BANDS, RESUME_BAND, band_of_lane

RequestKey = tuple[str, int]
"""Request id and attempt: what a redelivery has in common with the first delivery."""


@dataclass(frozen=True, slots=True)
class HeldRequest:
    """A request that was pulled from the queue and is not on a worker yet.

    Attributes:
        lane: where it waited in the queue: its tenant's part of its band.
        queue_position: rises with arrival in the queue, over all bands.
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
    def band(self) -> str:
        """Its class, or the resume band, which goes before every class."""
        return band_of_lane(self.lane)

    @property
    def num_prompt_tokens(self) -> int:
        """What a worker may have to prefill."""
        return len(self.request.prompt_token_ids)

    @property
    def is_resume(self) -> bool:
        """Whether its client already waits longer than all first attempts."""
        return self.band == RESUME_BAND


@dataclass(frozen=True, slots=True)
class Order:
    """Held requests, sorted.

    Attributes:
        ready: to be placed, the first first.
        expired: nobody waits for these any more.
    """

    ready: tuple[HeldRequest, ...]
    expired: tuple[HeldRequest, ...]


class FairOrder:
    """Strict bands with a least share for the lower ones, fair between the tenants of a band.

    Inside a tenant the earliest deadline goes first, then the first that came. What was served is
    told by `placed` and `produced`; asking for an order changes no account, except that a tenant
    that comes back from idleness starts level with the least served one that waits.
    """

    def __init__(self, rules: FairnessRules | None = None) -> None:
        self._rules = rules or FairnessRules()
        self._books = {band: ServiceBook(self._rules.half_life_s) for band in BANDS}
        self._shares = BandShares(self._rules.min_share)

    def order(self, held: Iterable[HeldRequest], *, now_unix_ms: int, now_s: float) -> Order:
        """Sorts what is held; costs of a request count for those behind it at once."""
        expired: list[HeldRequest] = []
        by_band: dict[str, dict[str, list[HeldRequest]]] = {band: {} for band in BANDS}
        for entry in held:
            if entry.request.deadline_unix_ms <= now_unix_ms:
                expired.append(entry)
            else:
                tenants = by_band[entry.band]
                tenants.setdefault(entry.request.tenant, []).append(entry)
        queues = {
            band: self._inside_band(band, by_tenant, now_s)
            for band, by_tenant in by_band.items()
            if by_tenant
        }
        return Order(tuple(self._across_bands(queues)), tuple(expired))

    def placed(self, entry: HeldRequest, num_computed_tokens: int, now_s: float) -> None:
        """A worker was given the request, and will compute so many of its prompt tokens.

        A resumed request is not charged: its tenant paid for it when it went out first.
        """
        self._shares.serve(entry.band, entry.num_prompt_tokens)
        if not entry.is_resume:
            self._books[entry.band].charge(entry.request.tenant, num_computed_tokens, now_s)

    def produced(self, band: str, tenant: str, num_output_tokens: int, now_s: float) -> None:
        """Workers made output tokens for a tenant."""
        weighted = self._rules.output_weight * num_output_tokens
        self._books[band].charge(tenant, weighted, now_s)

    def _inside_band(
        self, band: str, by_tenant: dict[str, list[HeldRequest]], now_s: float
    ) -> list[HeldRequest]:
        book = self._books[band]
        book.level(by_tenant)
        heap: list[tuple[float, int, str]] = []
        for tenant, entries in by_tenant.items():
            entries.sort(key=_inside_tenant, reverse=True)
            heap.append((book.standing(tenant), book.turn(tenant), tenant))
        heapq.heapify(heap)
        ordered: list[HeldRequest] = []
        turn, unit = book.next_turn, book.unit(now_s)
        while heap:
            standing, _, tenant = heap[0]
            entries = by_tenant[tenant]
            entry = entries.pop()
            ordered.append(entry)
            if entries:
                turn += 1
                charged = standing + entry.num_prompt_tokens * unit
                heapq.heapreplace(heap, (charged, turn, tenant))
            else:
                heapq.heappop(heap)
        return ordered

    def _across_bands(self, queues: dict[str, list[HeldRequest]]) -> list[HeldRequest]:
        for queue in queues.values():
            queue.reverse()
        shares = self._shares
        shares.wait({band: queue[-1].num_prompt_tokens for band, queue in queues.items()})
        shares = shares.copy()
        ordered: list[HeldRequest] = []
        while queues:
            band = shares.next_band()
            queue = queues[band]
            entry = queue.pop()
            ordered.append(entry)
            shares.serve(band, entry.num_prompt_tokens)
            if queue:
                shares.head(band, queue[-1].num_prompt_tokens)
            else:
                del queues[band]
                shares.leave(band)
        return ordered


def _inside_tenant(entry: HeldRequest) -> tuple[int, int, RequestKey]:
    return entry.request.deadline_unix_ms, entry.queue_position, entry.key
