"""Who was served how much: accounts of tenants, and the least share of a band."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.wire.subjects import BANDS

MAX_TENANTS = 10_000
"""Accounts kept of a band; beyond that the one that was charged longest ago is forgotten."""

MAX_HALF_LIVES = 500
"""After so many, standings are made smaller."""


@dataclass(frozen=True, slots=True)
class FairnessRules:
    """What counts how much.

    Attributes:
        output_weight: of an output token against a prompt token that was computed.
        half_life_s: how fast service is forgotten.
        min_share: of the prompt tokens placed while it waits, for each band below the first.

    Source: the defaults of output weight and half-life are those of llm-d's "least attained
    service" order.
    """

    output_weight: float = 2.0
    half_life_s: float = 60.0
    min_share: float = 0.05


@dataclass(slots=True)
class _Account:
    standing: float = 0.0
    turn: int = 0


class ServiceBook:
    """Service that each tenant of a band attained, in weighted tokens, decaying.

    Standings do not decay; instead what is charged later weighs more (`unit`). Their order is the
    same, and two that are equal stay equal: no rounding of powers tells them apart.
    """

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._accounts: dict[str, _Account] = {}
        self._waited: frozenset[str] = frozenset()
        self._began_s: float | None = None
        self.next_turn = 1

    def unit(self, now_s: float) -> float:
        """What a token that is served now adds to a standing."""
        if self._began_s is None:
            self._began_s = now_s
        num_half_lives = max(0.0, now_s - self._began_s) / self._half_life_s
        if num_half_lives > MAX_HALF_LIVES:
            # Before numbers get too large for a float.
            shrink = 0.5**num_half_lives
            for account in self._accounts.values():
                account.standing *= shrink
            self._began_s, num_half_lives = now_s, 0.0
        return 2.0**num_half_lives

    def standing(self, tenant: str) -> float:
        """The one with the least goes first."""
        account = self._accounts.get(tenant)
        return 0.0 if account is None else account.standing

    def turn(self, tenant: str) -> int:
        """When it was last charged; of equals, the one with the lower goes first."""
        account = self._accounts.get(tenant)
        return 0 if account is None else account.turn

    def charge(self, tenant: str, tokens: float, now_s: float) -> None:
        """The tenant was given so much."""
        unit = self.unit(now_s)
        self._set(tenant, self.standing(tenant) + tokens * unit).turn = self.next_turn
        self.next_turn += 1

    def level(self, waiting: Iterable[str]) -> None:
        """Lifts those that did not wait before to the least of those that did and still do.

        Else a tenant that comes late would have all until it has caught up with the years of the
        others. Never lowers, so that coming and going gains nothing.

        Source: the counter lift of "Fairness in Serving Large Language Models", Sheng et al. 2024.
        """
        now_waiting = frozenset(waiting)
        stayed = now_waiting & self._waited
        if stayed and len(stayed) < len(now_waiting):
            least = min(self.standing(tenant) for tenant in stayed)
            for tenant in now_waiting - stayed:
                if self.standing(tenant) < least:
                    self._set(tenant, least)
        self._waited = now_waiting

    def _set(self, tenant: str, standing: float) -> _Account:
        account = self._accounts.pop(tenant, None) or _Account()
        account.standing = standing
        self._accounts[tenant] = account
        if len(self._accounts) > MAX_TENANTS:
            del self._accounts[next(iter(self._accounts))]
        return account


class BandShares:
    """Which band goes next: the most urgent, unless a lower one has saved enough for its head.

    A band that waits behind another saves `min_share` of each token that goes before it, and spends
    them on its head; what it saves is bounded by what its head costs.
    """

    def __init__(self, min_share: float) -> None:
        self._min_share = min_share
        self._saved = dict.fromkeys(BANDS, 0.0)
        self._head: dict[str, float] = {}

    def copy(self) -> BandShares:
        """The same accounts, to try an order on."""
        twin = BandShares(self._min_share)
        twin._saved = dict(self._saved)
        twin._head = dict(self._head)
        return twin

    def wait(self, heads: Mapping[str, float]) -> None:
        """These bands wait, each with a head that costs so much; the others are empty."""
        self._head = dict(heads)

    def head(self, band: str, cost: float) -> None:
        """The band has another head."""
        self._head[band] = cost

    def leave(self, band: str) -> None:
        """The band is empty now."""
        self._head.pop(band, None)

    def next_band(self) -> str:
        """The band whose head goes next; one must wait."""
        waiting = [band for band in BANDS if band in self._head]
        for band in reversed(waiting[1:]):
            if self._saved[band] >= self._head[band]:
                return band
        return waiting[0]

    def serve(self, band: str, cost: float) -> None:
        """The band's head went out."""
        waiting = [other for other in BANDS if other in self._head]
        if waiting and band != waiting[0]:
            self._saved[band] = max(0.0, self._saved[band] - cost)
        for other in waiting[1:]:
            if other != band:
                saved = self._saved[other] + self._min_share * cost
                self._saved[other] = min(saved, self._head[other])
