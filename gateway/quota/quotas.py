"""Limits of keys and tenants at this gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from gateway.quota.ledger import Ledger
from gateway.quota.share import Kind, Share
from services.core.caller import Caller, Limits
from services.core.errors import Conflict, InvalidRequest, QuotaExceeded, TokenmillError
from services.core.quota import Left, QuotaStatus
from services.runtime import names
from services.runtime.logs import get_logger
from services.runtime.telemetry import tracer
from services.wire.subjects import token

log = get_logger(__name__)

SYNC_INTERVAL_S = 1.0
_MAX_TRIES = 20
_DECODER = msgspec.json.Decoder(Ledger)
_WHAT = {
    Kind.REQUESTS: "requests a minute",
    Kind.TOKENS: "tokens a minute",
    Kind.CONCURRENT: "requests at once",
}


class QuotaBucket(Protocol):
    """What quotas need of services.runtime.key_value.KeyValueBucket."""

    async def read(self, key: str) -> tuple[bytes, int]:
        """Value and revision; empty and 0 if there is none."""
        ...

    async def write(self, key: str, value: bytes, *, revision: int) -> int:
        """Replaces the value if it still has this revision.

        Raises:
            Conflict: it has another.
        """
        ...


class _Limited:
    """One share and its place in the bucket; `who` is for messages."""

    def __init__(self, key: str, share: Share, who: str) -> None:
        self.key = key
        self.share = share
        self.who = who
        self.lock = asyncio.Lock()
        self.num_grants = 0


class Quotas:
    """Grants from leases of its own; the bucket is asked when a lease runs out, and once a second.

    Args:
        bucket: shared by all gateways.
        gateway: our name there; unlike that of any process before: a gateway that took over what
            another held would grant again what that one had granted and not yet told.
        limits_of: a tenant's limits.
    """

    def __init__(
        self, bucket: QuotaBucket, gateway: str, limits_of: Callable[[str], Limits]
    ) -> None:
        self._bucket = bucket
        self._gateway = gateway
        self._limits_of = limits_of
        self._limited: dict[str, _Limited] = {}

    async def enter(self, caller: Caller) -> Grant:
        """Lets one request in.

        Raises:
            QuotaExceeded: the key or its tenant is over a limit.
            DependencyLost: what is left cannot be found out.
        """
        grant = Grant(self, self._of(caller))
        try:
            await grant.take(Kind.CONCURRENT, 1)
            await grant.take(Kind.REQUESTS, 1)
        except BaseException:
            grant.undo()
            raise
        return grant

    async def keep_synchronised(self) -> None:
        """Books what was granted and renews leases; runs until cancelled."""
        while True:
            await asyncio.sleep(SYNC_INTERVAL_S)
            for key, limited in list(self._limited.items()):
                try:
                    async with limited.lock:
                        await self.synchronise(limited, need=0)
                        if limited.share.is_idle and not limited.num_grants:
                            del self._limited[key]
                except TokenmillError as exc:
                    log.warning("quota.not_synchronised", error=exc.message)

    async def take(self, limited: _Limited, units: int) -> None:
        """Takes units of one limit.

        Raises:
            QuotaExceeded: there are none.
            DependencyLost: what is left cannot be found out.
        """
        share = limited.share
        if share.grant(units, time.time()):
            return
        # Asking the bucket takes a trip to the broker; what is granted at once needs no span.
        with tracer.start_as_current_span(names.SPAN_GATEWAY_LIMITS):
            async with limited.lock:
                if share.grant(units, time.time()):
                    return
                if share.refused_for_s(time.time()) is None:
                    await self.synchronise(limited, need=units)
                    if share.grant(units, time.time()):
                        return
        raise QuotaExceeded(
            f"{limited.who} is over its limit of {share.limit} {_WHAT[share.kind]}",
            retry_after_s=float(share.refused_for_s(time.time()) or 1),
            reason=f"{share.kind.name}_LIMIT",
        )

    async def synchronise(self, limited: _Limited, *, need: int) -> None:
        """Exchanges a share with its ledger.

        Raises:
            DependencyLost: the broker does not answer.
        """
        share = limited.share
        for _ in range(_MAX_TRIES):
            value, revision = await self._bucket.read(limited.key)
            now_s = time.time()
            ledger = share.synchronise(_decode(value), self._gateway, now_s, need=need)
            try:
                payload = msgspec.json.encode(ledger)
                await self._bucket.write(limited.key, payload, revision=revision)
            except Conflict:
                share.not_written()
                continue
            except BaseException:
                share.not_written()
                raise
            share.written(ledger, self._gateway, now_s, need=need)
            return
        raise Conflict("other gateways keep changing this limit", reason="QUOTA_CONTENDED")

    def _of(self, caller: Caller) -> list[_Limited]:
        who_limits = [(f"tenant {caller.tenant}", f"t.{token(caller.tenant)}", caller.tenant)]
        found: list[_Limited] = []
        for who, place, tenant in who_limits:
            found += self._shares(who, place, self._limits_of(tenant))
        if caller.key_id:
            place = f"k.{token(caller.key_id)}"
            found += self._shares(f"key {caller.key_id}", place, caller.limits)
        return found

    def _shares(self, who: str, place: str, limits: Limits) -> list[_Limited]:
        found: list[_Limited] = []
        for kind, limit in (
            (Kind.REQUESTS, limits.requests_per_min),
            (Kind.TOKENS, limits.tokens_per_min),
            (Kind.CONCURRENT, limits.max_concurrent),
        ):
            if limit is None:
                continue
            key = f"{place}.{kind}"
            limited = self._limited.get(key)
            if limited is None:
                limited = self._limited[key] = _Limited(key, Share(kind, limit), who)
            limited.share.limit = limit
            found.append(limited)
        return found


class Grant:
    """What one request was given; `leave` returns what it did not use."""

    def __init__(self, quotas: Quotas, limited: Sequence[_Limited]) -> None:
        self._quotas = quotas
        self._limited = limited
        self._taken: list[tuple[_Limited, int, float]] = []
        self._is_open = True
        for one in limited:
            one.num_grants += 1

    @property
    def max_tokens(self) -> int | None:
        """Most tokens that one request can ever be given; None: no limit."""
        limits = [one.share.limit for one in self._limited if one.share.kind is Kind.TOKENS]
        return min(limits, default=None)

    async def take(self, kind: Kind, units: int) -> None:
        """Takes units of every limit of this kind.

        Raises:
            QuotaExceeded: one of them has too few.
            DependencyLost: what is left cannot be found out.
        """
        for limited in self._limited:
            if limited.share.kind is kind:
                try:
                    await self._quotas.take(limited, units)
                except QuotaExceeded as exc:
                    exc.status = self.status()
                    raise
                self._taken.append((limited, units, time.time()))

    async def reserve_tokens(self, units: int) -> None:
        """Takes what a request can use at most; `leave` returns the rest.

        Raises:
            InvalidRequest: more than a whole minute has: no waiting helps.
            QuotaExceeded, DependencyLost: as `take`.
        """
        most = self.max_tokens
        if most is not None and units > most:
            raise InvalidRequest(
                f"prompt and max_tokens are {units} tokens together; the limit is {most} tokens a"
                " minute",
                field="max_tokens",
                reason="OVER_TOKEN_LIMIT",
            )
        await self.take(Kind.TOKENS, units)

    def status(self) -> QuotaStatus:
        """What is left, of the tightest limit of each kind."""
        return QuotaStatus(self._left(Kind.REQUESTS), self._left(Kind.TOKENS))

    def leave(self, *, tokens_used: int) -> None:
        """The request has ended: its place and what it did not use go back. Twice is safe."""
        for limited, units, at_s in self._taken:
            match limited.share.kind:
                case Kind.CONCURRENT:
                    limited.share.give_back(units, at_s)
                case Kind.TOKENS:
                    limited.share.give_back(max(0, units - tokens_used), at_s)
                case Kind.REQUESTS:
                    pass
        self._close()

    def undo(self) -> None:
        """The request was not let in: everything goes back."""
        for limited, units, at_s in self._taken:
            limited.share.give_back(units, at_s)
        self._close()

    def _close(self) -> None:
        self._taken = []
        if self._is_open:
            self._is_open = False
            for one in self._limited:
                one.num_grants -= 1

    def _left(self, kind: Kind) -> Left | None:
        left = [one.share.left() for one in self._limited if one.share.kind is kind]
        return min(left, key=lambda one: one.remaining, default=None)


def _decode(value: bytes) -> Ledger:
    return _DECODER.decode(value) if value else Ledger()
