"""API keys and tenants in the broker, as the command line changes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from services.core.api_key import ApiKey, check_name, draw_secret
from services.core.caller import DEFAULT_TENANT, NO_LIMITS, Limits, Scope
from services.core.errors import Conflict, NotFound
from services.wire.access import (
    decode_key,
    decode_tenant,
    encode_key,
    encode_tenant,
    is_tenant_entry,
    key_entry,
    key_id_of_entry,
    tenant_entry,
)

_MAX_TRIES = 5


class AccessStore(Protocol):
    """What the commands need of services.runtime.key_value.KeyValueBucket."""

    async def read(self, key: str) -> tuple[bytes, int]:
        """Value and revision; empty and 0 if there is none."""
        ...

    async def write(self, key: str, value: bytes, *, revision: int) -> int:
        """Replaces the value if it still has this revision.

        Raises:
            Conflict: it has another.
        """
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Writes whatever was there before."""
        ...

    async def entries(self) -> dict[str, bytes]:
        """Everything that is there now."""
        ...


@dataclass(frozen=True, slots=True)
class KeyWish:
    """A key to make."""

    name: str
    tenant: str = DEFAULT_TENANT
    scopes: frozenset[Scope] = frozenset({Scope.INFERENCE, Scope.SESSIONS})
    models: frozenset[str] = frozenset()
    limits: Limits = NO_LIMITS
    lifetime_s: int | None = None
    caches_results: bool = False


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key with its secret, which is shown now and never again."""

    key: ApiKey
    secret: str


class KeyStore:
    """Every change is in force on all gateways as soon as the broker has pushed it to them."""

    def __init__(self, bucket: AccessStore) -> None:
        self._bucket = bucket

    async def create(self, wish: KeyWish) -> MadeKey:
        """Makes a key.

        Raises:
            InvalidRequest: a bad name.
            DependencyLost: the broker does not answer.
        """
        check_name(wish.name, field="name")
        check_name(wish.tenant, field="tenant")
        now = int(time.time())
        drawn = draw_secret()
        key = ApiKey(
            key_id=drawn.key_id,
            sha256=drawn.sha256,
            name=wish.name,
            tenant=wish.tenant,
            scopes=wish.scopes,
            models=wish.models,
            limits=wish.limits,
            created_unix_s=now,
            expires_unix_s=None if wish.lifetime_s is None else now + wish.lifetime_s,
            caches_results=wish.caches_results,
        )
        await self._bucket.write(key_entry(key.key_id), encode_key(key), revision=0)
        return MadeKey(key, drawn.text)

    async def keys(self) -> list[ApiKey]:
        """All keys, oldest first."""
        found = await self._bucket.entries()
        keys = [decode_key(value) for entry, value in found.items() if key_id_of_entry(entry)]
        return sorted(keys, key=lambda key: (key.created_unix_s, key.key_id))

    async def revoke(self, key_id: str) -> ApiKey:
        """Ends a key now.

        Raises:
            NotFound: no such key.
        """
        return await self._change(
            key_id, lambda key: replace(key, revoked_unix_s=key.revoked_unix_s or int(time.time()))
        )

    async def rotate(self, key_id: str, *, grace_s: int) -> MadeKey:
        """Makes a key like this one, which itself ends grace_s from now.

        Raises:
            NotFound: no such key.
        """
        old = await self._read(key_id)
        lifetime_s = None
        if old.expires_unix_s is not None:
            lifetime_s = old.expires_unix_s - old.created_unix_s
        made = await self.create(
            KeyWish(
                old.name,
                old.tenant,
                old.scopes,
                old.models,
                old.limits,
                lifetime_s,
                old.caches_results,
            )
        )
        end = int(time.time()) + grace_s
        await self._change(
            key_id,
            lambda key: replace(key, expires_unix_s=min(end, key.expires_unix_s or end)),
        )
        return made

    async def limit_tenant(self, tenant: str, limits: Limits) -> None:
        """Sets what a whole tenant may use.

        Raises:
            InvalidRequest: a bad name.
        """
        check_name(tenant, field="tenant")
        await self._bucket.put(tenant_entry(tenant), encode_tenant(tenant, limits))

    async def tenants(self) -> dict[str, Limits]:
        """All tenants that have limits of their own."""
        found = await self._bucket.entries()
        return dict(
            sorted(decode_tenant(value) for entry, value in found.items() if is_tenant_entry(entry))
        )

    async def _read(self, key_id: str) -> ApiKey:
        value, _ = await self._bucket.read(key_entry(key_id))
        if not value:
            raise NotFound(f"there is no key {key_id[:64]!r}", field="key_id")
        return decode_key(value)

    async def _change(self, key_id: str, change: Callable[[ApiKey], ApiKey]) -> ApiKey:
        entry = key_entry(key_id)
        for _ in range(_MAX_TRIES):
            value, revision = await self._bucket.read(entry)
            if not value:
                raise NotFound(f"there is no key {key_id[:64]!r}", field="key_id")
            key = change(decode_key(value))
            try:
                await self._bucket.write(entry, encode_key(key), revision=revision)
            except Conflict:
                continue
            return key
        raise Conflict(f"somebody else keeps changing key {key_id}")
