"""Who asks, and what they may do."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from services.core.errors import PermissionDenied

DEFAULT_TENANT = "default"


class Scope(enum.StrEnum):
    """What a key is for."""

    INFERENCE = "inference"
    SESSIONS = "sessions"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one key, or one tenant, may use; None: no limit.

    Attributes:
        requests_per_min: requests accepted in any 60 seconds.
        tokens_per_min: prompt and answer tokens in any 60 seconds.
        max_concurrent: requests at once.
    """

    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    max_concurrent: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever stands at a door.

    Attributes:
        tenant: whose sessions, cached blocks and usage these are; strangers share none.
        key_id: names the key or the token's subject in usage; never secret.
        name: for people.
        models: may be asked for; empty: all.
        limits: of the key alone; the tenant's own come on top.
        caches_results: its requests use the result cache unless they say otherwise.
    """

    tenant: str = DEFAULT_TENANT
    key_id: str = ""
    name: str = ""
    scopes: frozenset[Scope] = ALL_SCOPES
    models: frozenset[str] = frozenset()
    limits: Limits = NO_LIMITS
    caches_results: bool = False

    def require(self, scope: Scope) -> None:
        """Checks a scope.

        Raises:
            PermissionDenied: the key was not given it.
        """
        if scope not in self.scopes:
            has = ", ".join(sorted(self.scopes)) or "none"
            raise PermissionDenied(
                f"this needs the scope {scope}; the key has: {has}", reason="SCOPE_MISSING"
            )

    def require_model(self, model: str) -> None:
        """Checks a model.

        Raises:
            PermissionDenied: the key may not use it.
        """
        if not self.may_use(model):
            raise PermissionDenied(
                f"the key may not use model {model}; it may use: {', '.join(sorted(self.models))}",
                reason="MODEL_NOT_ALLOWED",
            )

    def may_use(self, model: str) -> bool:
        """Whether the key is for this model."""
        return not self.models or model in self.models


OPEN_CALLER = Caller(name="open")
"""Everybody, where no key is asked for."""
