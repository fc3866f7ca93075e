"""The public keys of an identity provider, cached."""

from __future__ import annotations

import asyncio
import time

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.core.errors import DependencyLost
from services.runtime.logs import get_logger

log = get_logger(__name__)

FRESH_S = 300.0
"""A set of keys is asked for again after this long."""

MIN_REFETCH_S = 5.0
"""An unknown key id asks again at once, but not more often: anybody can invent key ids."""

FETCH_TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20


class Jwks:
    """Keys by id; fetched when first needed, when old, and when a token names an unknown one.

    While the provider is away the last set stays in force.

    Args:
        issuer: the OIDC issuer; its discovery document names the set unless `url` does.
        url: of the set itself.
    """

    def __init__(self, issuer: str, url: str = "") -> None:
        self._issuer = issuer.rstrip("/")
        self._url = url
        self._keys: KeySet | None = None
        self._fetched_at_s = -FRESH_S
        self._lock = asyncio.Lock()

    async def keys(self, key_id: str | None) -> KeySet:
        """The set, hopefully with this key.

        Raises:
            DependencyLost: the provider never answered.
        """
        async with self._lock:
            age_s = time.monotonic() - self._fetched_at_s
            is_known = self._keys is not None and _has(self._keys, key_id)
            if age_s >= FRESH_S or (not is_known and age_s >= MIN_REFETCH_S):
                await self._fetch()
            if self._keys is None:
                raise DependencyLost(
                    "the identity provider's keys cannot be read", retry_after_s=MIN_REFETCH_S
                )
            return self._keys

    async def _fetch(self) -> None:
        self._fetched_at_s = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=FETCH_TIMEOUT_S) as client:
                url = self._url
                if not url:
                    found = await _get(client, f"{self._issuer}/.well-known/openid-configuration")
                    url = str(found["jwks_uri"])
                self._keys = KeySet.import_key_set(await _get(client, url))  # pyright: ignore[reportArgumentType]
        except (httpx.HTTPError, JoseError, ValueError, KeyError, TypeError) as exc:
            log.warning("jwks.not_fetched", issuer=self._issuer, error=repr(exc))


async def _get(client: httpx.AsyncClient, url: str) -> dict[str, object]:
    reply = await client.get(url)
    reply.raise_for_status()
    if len(reply.content) > MAX_BYTES:
        raise ValueError(f"{url} answers more than {MAX_BYTES} bytes")
    return reply.json()


def _has(keys: KeySet, key_id: str | None) -> bool:
    return key_id is None or any(key.kid == key_id for key in keys.keys)
