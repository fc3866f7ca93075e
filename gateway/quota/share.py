"""One gateway's share of one limit: granted from a lease, synchronised with the ledger."""

from __future__ import annotations

import enum

from gateway.quota.ledger import (
    LEASE_S,
    Ledger,
    book,
    lease,
    seconds_until_free,
    seconds_until_full,
    settle,
)
from services.core.quota import Left

_MIN_SPARE_SHARE = 50
"""A fresh lease holds at least this fraction of the limit beyond what is asked for."""

_MAX_SPARE_PART = 4
"""A lease takes at most this part of what is free: other gateways want some too."""

_KEEP_S = 10.0
"""What is left of a lease goes back this long after the last grant from it."""


class Kind(enum.StrEnum):
    """What is limited."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"


class Share:
    """Grants units of one limit.

    Of CONCURRENT, units come back when a request ends; of the others, a minute after their use.

    Attributes:
        limit: of all gateways together; may change at any time.
    """

    def __init__(self, kind: Kind, limit: int) -> None:
        self.kind = kind
        self.limit = limit
        self._free = 0
        self._lease_units = 0
        self._until_s = 0
        self._pending: dict[int, int] = {}
        self._sent: dict[int, int] | None = None
        self._granted_at_s = 0.0
        self._num_running = 0
        self._num_granted_lately = 0
        self._refused_until_s = 0.0
        self._retry_after_s = 1
        self._known_free = limit
        self._reset_s = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held, owed or running."""
        return not (self._lease_units or self._pending or self._num_running)

    def grant(self, units: int, now_s: float) -> bool:
        """Gives out units of the lease; False if it has too few, or is being renewed."""
        if self._sent is not None or units > self._free or now_s >= self._until_s:
            return False
        self._granted_at_s = now_s
        self._free -= units
        self._num_granted_lately += units
        if self.kind is Kind.CONCURRENT:
            self._num_running += units
        else:
            self._pending[int(now_s)] = self._pending.get(int(now_s), 0) + units
        return True

    def refused_for_s(self, now_s: float) -> int | None:
        """Seconds to wait, if the ledger was asked lately and had none; None: ask it."""
        return self._retry_after_s if now_s < self._refused_until_s else None

    def give_back(self, units: int, granted_at_s: float) -> None:
        """Units that were granted and not used, or whose request has ended."""
        if self.kind is Kind.CONCURRENT:
            self._num_running -= units
            self._free += units
            self._refused_until_s = 0.0
        elif units:
            at_s = int(granted_at_s)
            self._pending[at_s] = self._pending.get(at_s, 0) - units

    def synchronise(self, ledger: Ledger, gateway: str, now_s: float, *, need: int) -> Ledger:
        """Books what was granted and takes a new lease; the ledger to write.

        Until `written` or `not_written` nothing is granted.

        Args:
            ledger: as it was read.
            gateway: our name in it.
            now_s: now.
            need: units that somebody waits for.
        """
        now = int(now_s)
        self._sent = dict(self._pending)
        ledger = settle(ledger, now)
        held = ledger.leases.get(gateway)
        if self.kind is Kind.CONCURRENT:
            busy = self._num_running
        else:
            busy = 0
            # Without our lease it has run out, and all of it counts as used already: what is
            # pending must not be booked a second time.
            if held is not None or not self._lease_units:
                ledger = book(ledger, self._sent)
        ledger = lease(ledger, gateway, 0, now)
        room = max(0, self.limit - ledger.num_taken - busy)
        if need > room:
            need = 0
        wish = max(1, self.limit // _MIN_SPARE_SHARE, 2 * self._num_granted_lately)
        is_wanted = need or now_s - self._granted_at_s < _KEEP_S
        spare = min(wish, (room - need) // _MAX_SPARE_PART) if is_wanted else 0
        return lease(ledger, gateway, busy + need + spare, now)

    def written(self, ledger: Ledger, gateway: str, now_s: float, *, need: int) -> None:
        """The ledger from synchronise stands."""
        sent, self._sent = self._sent or {}, None
        # What was given back meanwhile is owed still.
        owed = {at_s: units - sent.get(at_s, 0) for at_s, units in self._pending.items()}
        self._pending = {at_s: units for at_s, units in owed.items() if units}
        held = ledger.leases.get(gateway)
        self._lease_units = held.units if held else 0
        self._until_s = held.until_s if held else int(now_s) + LEASE_S
        busy = self._num_running if self.kind is Kind.CONCURRENT else 0
        self._free = self._lease_units - busy
        self._num_granted_lately = 0
        self._known_free = max(0, self.limit - ledger.num_taken)
        self._reset_s = seconds_until_full(ledger, int(now_s))
        if need > self._free:
            self._retry_after_s = seconds_until_free(ledger, self.limit, need, int(now_s))
            # Not longer: another gateway may give back what it held.
            self._refused_until_s = now_s + min(1.0, self._retry_after_s)

    def not_written(self) -> None:
        """Somebody else wrote first, or the broker is away: all is as before."""
        self._sent = None

    def left(self) -> Left:
        """What callers are told."""
        return Left(self.limit, max(0, self._known_free + self._free), self._reset_s)
