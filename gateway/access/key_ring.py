"""All API keys and tenant limits, as the broker holds them now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.core.api_key import ApiKey
from services.core.caller import NO_LIMITS, Limits
from services.core.errors import DependencyLost, TokenmillError
from services.runtime.key_value import Change
from services.runtime.logs import get_logger
from services.wire.access import decode_key, decode_tenant, is_tenant_entry, key_id_of_entry

log = get_logger(__name__)

RETRY_PAUSE_S = 0.2


class AccessBucket(Protocol):
    """What a key ring needs of services.runtime.key_value.KeyValueBucket."""

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[Change | None]]:
        """Every entry, then None, then each change as it comes.

        Raises:
            DependencyLost: the broker is away.
        """
        ...


class KeyRing:
    """A copy that follows the bucket: a change is in force as soon as the broker has pushed it.

    While the broker is away the last copy stays in force: no request could be queued anyway.
    """

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._tenants: dict[str, tuple[str, Limits]] = {}
        self._limits: dict[str, Limits] = {}
        self.is_loaded = False

    def find(self, key_id: str) -> ApiKey | None:
        """The record of a key.

        Raises:
            DependencyLost: the keys are not loaded yet.
        """
        if not self.is_loaded:
            raise DependencyLost("the API keys are not loaded yet", retry_after_s=1.0)
        return self._keys.get(key_id)

    def limits_of(self, tenant: str) -> Limits:
        """Limits of a whole tenant."""
        return self._limits.get(tenant, NO_LIMITS)

    async def follow(self, bucket: AccessBucket) -> None:
        """Keeps the copy true; runs until cancelled."""
        while True:
            try:
                async with bucket.watch() as changes:
                    await self._read(changes)
            except TokenmillError as exc:
                log.warning("access.not_followed", error=exc.message)
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _read(self, changes: AsyncIterator[Change | None]) -> None:
        snapshot: list[Change] | None = []
        async for change in changes:
            if snapshot is None:
                assert change is not None
                self._take(change)
            elif change is not None:
                snapshot.append(change)
            else:
                # In one step: what was removed while nobody listened is gone, and no key that
                # stands is refused meanwhile.
                self._keys, self._tenants, self._limits = {}, {}, {}
                for known in snapshot:
                    self._take(known)
                snapshot = None
                self.is_loaded = True
                log.info("access.loaded", num_keys=len(self._keys))

    def _take(self, change: Change) -> None:
        key_id = key_id_of_entry(change.key)
        try:
            if key_id is not None and change.value is not None:
                self._keys[key_id] = decode_key(change.value)
            elif key_id is not None:
                self._keys.pop(key_id, None)
            elif is_tenant_entry(change.key) and change.value is not None:
                self._tenants[change.key] = decode_tenant(change.value)
            elif is_tenant_entry(change.key):
                self._tenants.pop(change.key, None)
        except ValueError as exc:
            # A record that nobody can read opens nothing.
            self._keys.pop(key_id or "", None)
            log.error("access.unreadable", entry=change.key, error=str(exc))
        self._limits = dict(self._tenants.values())
