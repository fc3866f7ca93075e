"""API keys: how one is made, kept and recognised. The secret itself is never stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from services.core.caller import Caller, Limits, Scope
from services.core.errors import InvalidRequest, Unauthenticated

KEY_PREFIX = "tm-"
_KEY = re.compile(r"tm-(?P<id>[0-9a-f]{12})-(?P<secret>[A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@:/-]{0,99}")
# Compared with when there is no such key, so that both cases take the same time.
_NO_HASH = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept.

    Attributes:
        key_id: the part of the key that may be shown; finds the record.
        sha256: of the whole key, in hex. The key holds 256 random bits: a slow hash adds nothing.
        models: may be asked for; empty: all.
        expires_unix_s, revoked_unix_s: not valid from then on; None: never, not.
        caches_results: its requests use the result cache unless they say otherwise.
    """

    key_id: str
    sha256: str
    name: str
    tenant: str
    scopes: frozenset[Scope]
    models: frozenset[str]
    limits: Limits
    created_unix_s: int
    expires_unix_s: int | None = None
    revoked_unix_s: int | None = None
    caches_results: bool = False

    def state(self, now_unix_s: float) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_unix_s is not None and now_unix_s >= self.revoked_unix_s:
            return "revoked"
        if self.expires_unix_s is not None and now_unix_s >= self.expires_unix_s:
            return "expired"
        return "active"

    def caller(self) -> Caller:
        """Who brings this key."""
        return Caller(
            self.tenant,
            self.key_id,
            self.name,
            self.scopes,
            self.models,
            self.limits,
            self.caches_results,
        )


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A fresh key, shown once."""

    text: str
    key_id: str
    sha256: str


def draw_secret() -> NewSecret:
    """Draws a key."""
    key_id = secrets.token_hex(6)
    text = f"{KEY_PREFIX}{key_id}-{secrets.token_urlsafe(32)}"
    return NewSecret(text, key_id, _hash(text))


def key_id_of(text: str) -> str | None:
    """The part of a key that finds its record; None if this is no key of ours."""
    found = _KEY.fullmatch(text)
    return found["id"] if found else None


def caller_by_key(text: str, key: ApiKey | None, *, now_unix_s: float) -> Caller:
    """Who brings this key.

    Args:
        text: as the caller sent it.
        key: the record that its id names, if there is one.
        now_unix_s: now.

    Raises:
        Unauthenticated: no such key, or it is not valid any more.
    """
    is_right = hmac.compare_digest(_hash(text), key.sha256 if key is not None else _NO_HASH)
    if key is None or not is_right:
        raise Unauthenticated("the API key is not valid", reason="INVALID_API_KEY")
    state = key.state(now_unix_s)
    if state != "active":
        raise Unauthenticated(f"the API key is {state}", reason=f"API_KEY_{state.upper()}")
    return key.caller()


def check_name(value: str, *, field: str) -> str:
    """A name of a key or tenant.

    Raises:
        InvalidRequest: wrong characters or length.
    """
    if _NAME.fullmatch(value) is None:
        raise InvalidRequest(
            f"{field} is {value[:100]!r}; allowed: 1 to 100 letters, digits and . _ @ : / -,"
            " the first a letter or digit",
            field=field,
        )
    return value


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
