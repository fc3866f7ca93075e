"""Usage of a key on a day, as the broker's key-value bucket keeps it: JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from services.wire.subjects import token


@dataclass(frozen=True, slots=True)
class DayOfUse:
    """What one key used on one day (UTC); key_id is empty where no key was asked for."""

    day: str
    tenant: str
    key_id: str
    num_requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: DayOfUse) -> DayOfUse:
        """Both together; day, tenant and key are the first one's."""
        return DayOfUse(
            self.day,
            self.tenant,
            self.key_id,
            self.num_requests + other.num_requests,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
        )


def usage_entry(use: DayOfUse) -> str:
    """Where it is kept."""
    return f"{use.day}.{token(use.tenant)}.{token(use.key_id) or '_'}"


def usage_pattern(tenant: str | None) -> str:
    """Keys of a tenant's records; None: of all."""
    return ">" if tenant is None else f"*.{token(tenant)}.*"


def encode_usage(use: DayOfUse) -> bytes:
    """As bytes."""
    return json.dumps(asdict(use)).encode()


def decode_usage(payload: bytes) -> DayOfUse:
    """From bytes.

    Raises:
        ValueError: not written by this service.
    """
    raw: dict[str, Any] = json.loads(payload)
    try:
        return DayOfUse(**raw)
    except TypeError as exc:
        raise ValueError(f"no usage record: {exc}") from exc
