"""A key-value bucket of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.js.api import KeyValueConfig, StorageType
from nats.js.kv import KeyValue

from services.core.errors import Conflict, DependencyLost
from services.runtime.bus import Bus

_WRONG_REVISION = (10071, 10164)
_LOST = (nats.errors.Error, nats.js.errors.Error, OSError, asyncio.TimeoutError)


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a key; value None: it was removed."""

    key: str
    value: bytes | None


class KeyValueBucket:
    """Created when first needed, and shared by all processes that name it.

    Args:
        bus: the broker.
        name: of the bucket.
        what: for messages, e.g. "the session store".
        ttl_s: entries are forgotten this long after they were written; 0: never.
        num_replicas: copies in the broker.
    """

    def __init__(
        self, bus: Bus, name: str, *, what: str, ttl_s: float = 0.0, num_replicas: int = 1
    ) -> None:
        self._bus = bus
        self._what = what
        self._config = KeyValueConfig(
            bucket=name,
            history=1,
            ttl=ttl_s or None,
            storage=StorageType.FILE,
            replicas=num_replicas,
        )
        self._bucket: KeyValue | None = None

    async def read(self, key: str) -> tuple[bytes, int]:
        """Value and revision; empty and 0 if there is none.

        Raises:
            DependencyLost: the broker does not answer.
        """
        try:
            entry = await (await self._open()).get(key)
        except nats.js.errors.KeyNotFoundError:
            return b"", 0
        except _LOST as exc:
            raise self._lost(exc) from exc
        return entry.value or b"", entry.revision or 0

    async def write(self, key: str, value: bytes, *, revision: int) -> int:
        """Replaces the value if it still has this revision; returns the new one.

        Raises:
            Conflict: it has another.
            DependencyLost: the broker does not answer.
        """
        try:
            return await (await self._open()).update(key, value, last=revision)
        except nats.js.errors.KeyWrongLastSequenceError as exc:
            raise Conflict(f"somebody else changed {self._what} meanwhile") from exc
        except _LOST as exc:
            raise self._lost(exc) from exc

    async def put(self, key: str, value: bytes) -> None:
        """Writes whatever was there before.

        Raises:
            DependencyLost: the broker does not answer.
        """
        try:
            await (await self._open()).put(key, value)
        except _LOST as exc:
            raise self._lost(exc) from exc

    async def delete(self, key: str, *, revision: int) -> None:
        """Removes the key if it still has this revision.

        Raises:
            Conflict: it has another.
            DependencyLost: the broker does not answer.
        """
        try:
            await (await self._open()).delete(key, last=revision)
        except nats.js.errors.APIError as exc:
            if exc.err_code in _WRONG_REVISION:
                raise Conflict(f"somebody else changed {self._what} meanwhile") from exc
            raise self._lost(exc) from exc
        except _LOST as exc:
            raise self._lost(exc) from exc

    async def keys(self, pattern: str) -> list[str]:
        """Keys of this pattern that have a value.

        Raises:
            DependencyLost: the broker does not answer.
        """
        found: list[str] = []
        async with self.watch(pattern, keys_only=True) as changes:
            async for change in changes:
                if change is None:
                    break
                if change.value is not None:
                    found.append(change.key)
        return found

    async def entries(self, pattern: str = ">") -> dict[str, bytes]:
        """Everything that is there now, under keys of this pattern (`*`: one token, `>`: the rest).

        Raises:
            DependencyLost: the broker does not answer.
        """
        found: dict[str, bytes] = {}
        async with self.watch(pattern) as changes:
            async for change in changes:
                if change is None:
                    break
                if change.value is not None:
                    found[change.key] = change.value
        return found

    @asynccontextmanager
    async def watch(
        self, pattern: str = ">", *, keys_only: bool = False
    ) -> AsyncIterator[AsyncIterator[Change | None]]:
        """Every entry, then None, then each change as it comes; with keys_only, without values.

        Raises:
            DependencyLost: the broker does not answer, or the connection was lost meanwhile: what
                changed then is not known, so the reader begins again.
        """
        try:
            watcher = await (await self._open()).watch(pattern, meta_only=keys_only)
        except _LOST as exc:
            raise self._lost(exc) from exc
        try:
            yield self._changes(watcher)
        finally:
            try:
                await watcher.stop()
            except _LOST:
                # The broker forgets a watcher that nobody reads by itself.
                self._bucket = None

    async def _changes(self, watcher: KeyValue.KeyWatcher) -> AsyncIterator[Change | None]:
        num_reconnects = self._bus.client.stats["reconnects"]
        while True:
            try:
                entry = await watcher.updates(timeout=1.0)
            except nats.errors.TimeoutError as exc:
                is_same = self._bus.client.stats["reconnects"] == num_reconnects
                if self._bus.is_connected and is_same:
                    continue
                raise self._lost(exc) from exc
            if entry is None:
                yield None
            elif isinstance(entry, KeyValue.Entry):
                yield Change(entry.key, None if entry.operation else entry.value or b"")

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            try:
                self._bucket = await self._bus.jetstream.create_key_value(self._config)
            except nats.js.errors.BadRequestError:
                # It stands with other settings: an operator's business, not a request's.
                assert self._config.bucket
                self._bucket = await self._bus.jetstream.key_value(self._config.bucket)
        return self._bucket

    def _lost(self, exc: Exception) -> DependencyLost:
        self._bucket = None
        return DependencyLost(f"{self._what} does not answer: {exc!r}", retry_after_s=1.0)
