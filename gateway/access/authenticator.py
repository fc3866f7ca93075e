"""From what a caller brings to who it is; the one way in, for HTTP and gRPC alike."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gateway.access.key_ring import KeyRing
from gateway.access.token_verifier import TokenVerifier
from services.core.api_key import KEY_PREFIX, caller_by_key, key_id_of
from services.core.caller import OPEN_CALLER, Caller
from services.core.errors import Unauthenticated

_BEARER = "bearer "
_MAX_KEY_CHARS = 128


class Authenticator:
    """Asks keys first, then tokens.

    Args:
        ring: the keys; None: nobody is asked for anything.
        tokens: of an identity provider, if there is one.
    """

    def __init__(self, ring: KeyRing | None, tokens: TokenVerifier | None = None) -> None:
        self._ring = ring
        self._tokens = tokens

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for anything."""
        return self._ring is None

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who sent these headers, or gRPC metadata; names in lower case.

        Raises:
            Unauthenticated: no key, or not a valid one.
            PermissionDenied: a token without a tenant.
            DependencyLost: keys cannot be looked up now.
        """
        if self._ring is None:
            return OPEN_CALLER
        text = _credential(headers)
        if text.startswith(KEY_PREFIX) or self._tokens is None:
            key_id = key_id_of(text) if len(text) <= _MAX_KEY_CHARS else None
            key = None if key_id is None else self._ring.find(key_id)
            return caller_by_key(text, key, now_unix_s=time.time())
        return await self._tokens.caller(text)


def _credential(headers: Mapping[str, str]) -> str:
    given = headers.get("authorization", "")
    if given[: len(_BEARER)].lower() == _BEARER:
        return given[len(_BEARER) :].strip()
    # Anthropic's clients bring it in a header of its own.
    key = headers.get("x-api-key", "")
    if not key:
        raise Unauthenticated(
            "no API key was given; send it as: Authorization: Bearer tm-...",
            reason="API_KEY_MISSING",
        )
    return key.strip()
