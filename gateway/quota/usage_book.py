"""What each key used, per day, kept in the broker."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from services.core.caller import Caller
from services.core.errors import Conflict, TokenmillError
from services.core.request import Usage
from services.runtime.logs import get_logger
from services.wire.usage import DayOfUse, decode_usage, encode_usage, usage_entry, usage_pattern

log = get_logger(__name__)

WRITE_INTERVAL_S = 2.0
_MAX_TRIES = 20
MAX_DAYS = 400


class UsageBucket(Protocol):
    """What the book needs of services.runtime.key_value.KeyValueBucket."""

    async def read(self, key: str) -> tuple[bytes, int]:
        """Value and revision; empty and 0 if there is none."""
        ...

    async def write(self, key: str, value: bytes, *, revision: int) -> int:
        """Replaces the value if it still has this revision.

        Raises:
            Conflict: it has another.
        """
        ...

    async def entries(self, pattern: str = ">") -> dict[str, bytes]:
        """Everything under keys of this pattern."""
        ...


class UsageBook:
    """Adds up here and writes every WRITE_INTERVAL_S; a gateway that is killed loses that much."""

    def __init__(self, bucket: UsageBucket) -> None:
        self._bucket = bucket
        self._unwritten: dict[str, DayOfUse] = {}

    def add(self, caller: Caller, usage: Usage) -> None:
        """One request has ended."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        use = DayOfUse(
            day,
            caller.tenant,
            caller.key_id,
            1,
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
        )
        self._add(usage_entry(use), use)

    async def keep_written(self) -> None:
        """Writes what was added; runs until cancelled."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL_S)
            await self.write()

    async def write(self) -> None:
        """Writes what was added so far; what cannot be written is kept for the next time."""
        unwritten, self._unwritten = self._unwritten, {}
        for entry, use in unwritten.items():
            try:
                await self._write(entry, use)
            except TokenmillError as exc:
                self._add(entry, use)
                log.warning("usage.not_written", error=exc.message)

    async def of_tenant(self, tenant: str) -> list[DayOfUse]:
        """All days and keys of a tenant, oldest first; what other gateways wrote included.

        Raises:
            DependencyLost: the broker does not answer.
        """
        await self.write()
        found = await self._bucket.entries(usage_pattern(tenant))
        days = [decode_usage(value) for value in found.values()]
        return sorted(days, key=lambda use: (use.day, use.key_id))

    async def _write(self, entry: str, use: DayOfUse) -> None:
        for _ in range(_MAX_TRIES):
            value, revision = await self._bucket.read(entry)
            total = decode_usage(value) + use if value else use
            try:
                await self._bucket.write(entry, encode_usage(total), revision=revision)
            except Conflict:
                continue
            return
        raise Conflict("other gateways keep changing this usage record")

    def _add(self, entry: str, use: DayOfUse) -> None:
        before = self._unwritten.get(entry)
        self._unwritten[entry] = use if before is None else before + use
