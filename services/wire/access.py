"""API keys and tenants as they are kept in the broker's key-value bucket: JSON."""

from __future__ import annotations

import json
from typing import Any, cast

from services.core.api_key import ApiKey
from services.core.caller import Limits, Scope
from services.wire.subjects import token

_KEY = "key."
_TENANT = "tenant."


def key_entry(key_id: str) -> str:
    """Where a key's record is kept."""
    return _KEY + token(key_id)


def tenant_entry(tenant: str) -> str:
    """Where a tenant's limits are kept."""
    return _TENANT + token(tenant)


def key_id_of_entry(entry: str) -> str | None:
    """The key whose record this is; None if it is none."""
    return entry.removeprefix(_KEY) if entry.startswith(_KEY) else None


def is_tenant_entry(entry: str) -> bool:
    """Whether a tenant's limits are kept here."""
    return entry.startswith(_TENANT)


def encode_key(key: ApiKey) -> bytes:
    """A record as bytes."""
    return json.dumps(
        {
            "key_id": key.key_id,
            "sha256": key.sha256,
            "name": key.name,
            "tenant": key.tenant,
            "scopes": sorted(key.scopes),
            "models": sorted(key.models),
            "limits": limits_as_json(key.limits),
            "created_unix_s": key.created_unix_s,
            "expires_unix_s": key.expires_unix_s,
            "revoked_unix_s": key.revoked_unix_s,
            "caches_results": key.caches_results,
        }
    ).encode()


def decode_key(payload: bytes) -> ApiKey:
    """A record from bytes; fields of a newer version are left out.

    Raises:
        ValueError: not written by this service.
    """
    raw = _object(payload)
    try:
        return ApiKey(
            key_id=str(raw["key_id"]),
            sha256=str(raw["sha256"]),
            name=str(raw["name"]),
            tenant=str(raw["tenant"]),
            scopes=frozenset(Scope(scope) for scope in raw["scopes"]),
            models=frozenset(str(model) for model in raw["models"]),
            limits=_limits(raw["limits"]),
            created_unix_s=int(raw["created_unix_s"]),
            expires_unix_s=_whole(raw["expires_unix_s"]),
            revoked_unix_s=_whole(raw["revoked_unix_s"]),
            # Records of earlier versions have no such field.
            caches_results=bool(raw.get("caches_results", False)),
        )
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no API key record: {exc!r}") from exc


def encode_tenant(tenant: str, limits: Limits) -> bytes:
    """A tenant's limits as bytes."""
    return json.dumps({"tenant": tenant, "limits": limits_as_json(limits)}).encode()


def decode_tenant(payload: bytes) -> tuple[str, Limits]:
    """A tenant and its limits.

    Raises:
        ValueError: not written by this service.
    """
    raw = _object(payload)
    try:
        return str(raw["tenant"]), _limits(raw["limits"])
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no tenant record: {exc!r}") from exc


def limits_as_json(limits: Limits) -> dict[str, int | None]:
    """Limits for programs."""
    return {
        "requests_per_min": limits.requests_per_min,
        "tokens_per_min": limits.tokens_per_min,
        "max_concurrent": limits.max_concurrent,
    }


def _object(payload: bytes) -> dict[str, Any]:
    raw: Any = json.loads(payload)
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")
    return cast(dict[str, Any], raw)


def _limits(raw: dict[str, Any]) -> Limits:
    return Limits(
        _whole(raw["requests_per_min"]),
        _whole(raw["tokens_per_min"]),
        _whole(raw["max_concurrent"]),
    )


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
