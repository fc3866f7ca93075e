"""The shared record of one limit: what was used when, and what each gateway holds in advance.

Pure. A gateway takes units in advance (a lease) and grants them to callers without asking
anybody. At all times used + leased <= limit, and a unit counts as used for 60 seconds at least, so
that no 60 seconds ever hold more than the limit, however many gateways grant.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

WINDOW_S = 60
LEASE_S = 15
"""A lease that is not renewed for this long belonged to a gateway that died."""


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """Units that one gateway may grant; until_s: Unix seconds."""

    units: int
    until_s: int


class Ledger(msgspec.Struct, frozen=True):
    """One limit.

    Attributes:
        used: units by Unix second of use.
        leases: by gateway.
    """

    used: dict[int, int] = {}
    leases: dict[str, Lease] = {}

    @property
    def num_taken(self) -> int:
        """Units that nobody else may take now."""
        return sum(self.used.values()) + sum(lease.units for lease in self.leases.values())


def settle(ledger: Ledger, now_s: int) -> Ledger:
    """The ledger as of now: old use is forgotten; what dead gateways held counts as used."""
    used = dict(ledger.used)
    leases: dict[str, Lease] = {}
    for gateway, lease in ledger.leases.items():
        if lease.until_s > now_s:
            leases[gateway] = lease
        elif lease.units:
            used[lease.until_s] = used.get(lease.until_s, 0) + lease.units
    # A use is booked on its whole second and may have come at the end of it.
    used = {at_s: units for at_s, units in used.items() if at_s > now_s - WINDOW_S - 1}
    return Ledger(used, leases)


def book(ledger: Ledger, used: Mapping[int, int]) -> Ledger:
    """Adds use by second; negative where less was used than had been booked."""
    booked = dict(ledger.used)
    for at_s, units in used.items():
        left = booked.get(at_s, 0) + units
        booked.pop(at_s, None)
        if left > 0:
            booked[at_s] = left
    return Ledger(booked, ledger.leases)


def lease(ledger: Ledger, gateway: str, units: int, now_s: int) -> Ledger:
    """Gives a gateway this many units in all."""
    leases = {name: held for name, held in ledger.leases.items() if name != gateway}
    if units > 0:
        leases[gateway] = Lease(units, now_s + LEASE_S)
    return Ledger(ledger.used, leases)


def seconds_until_free(ledger: Ledger, limit: int, units: int, now_s: int) -> int:
    """Whole seconds until so many units can be free; 1 if other gateways hold them unused."""
    missing = units - (limit - ledger.num_taken)
    if missing <= sum(held.units for held in ledger.leases.values()):
        return 1
    for at_s in sorted(ledger.used):
        missing -= ledger.used[at_s]
        if missing <= 0:
            return max(1, at_s + WINDOW_S + 1 - now_s)
    return WINDOW_S


def seconds_until_full(ledger: Ledger, now_s: int) -> int:
    """Whole seconds until nothing counts as used any more."""
    return max(0, max(ledger.used, default=now_s - WINDOW_S - 1) + WINDOW_S + 1 - now_s)
