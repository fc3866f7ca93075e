"""Responses that are kept, per tenant."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from services.core.errors import Conflict, NotFound
from services.core.request import ChatMessage
from services.wire.subjects import token


class ShelfBucket(Protocol):
    """What the shelf needs of services.runtime.key_value.KeyValueBucket."""

    async def read(self, key: str) -> tuple[bytes, int]:
        """Value and revision; empty and 0 if there is none."""
        ...

    async def write(self, key: str, value: bytes, *, revision: int) -> int:
        """Replaces the value if it still has this revision; returns the new one.

        Raises:
            Conflict: it has another.
        """
        ...


class Kept(msgspec.Struct):
    """One response, with the conversation that led to it and its answer."""

    response: dict[str, Any]
    messages: list[tuple[str, str]]
    is_deleted: bool = False

    def conversation(self) -> tuple[ChatMessage, ...]:
        """What a response that continues it begins with."""
        return tuple(ChatMessage(role, content) for role, content in self.messages)


_DECODER = msgspec.json.Decoder(Kept)


class Shelf:
    """Kept in the broker for TOKENMILL_SESSION_TTL_S; any gateway finds them."""

    def __init__(self, bucket: ShelfBucket, *, max_bytes: int) -> None:
        self._bucket = bucket
        self._max_bytes = max_bytes

    async def read(self, tenant: str, response_id: str, *, field: str) -> tuple[Kept, int]:
        """A response of this tenant, and its revision.

        Raises:
            NotFound: it does not exist, has expired, was deleted, or is another tenant's.
            DependencyLost: the broker does not answer.
        """
        value, revision = b"", 0
        if response_id:
            value, revision = await self._bucket.read(_key(tenant, response_id))
        kept = _DECODER.decode(value) if value else None
        if kept is None or kept.is_deleted:
            raise NotFound(
                f"response {response_id[:128]!r} does not exist or has expired",
                field=field,
                reason="RESPONSE_NOT_FOUND",
            )
        return kept, revision

    async def write(self, tenant: str, kept: Kept, *, revision: int) -> int:
        """Keeps a response; returns its revision. One that is too long is kept without its past.

        Raises:
            Conflict: somebody else changed it: it was cancelled.
            DependencyLost: the broker does not answer.
        """
        payload = msgspec.json.encode(kept)
        if len(payload) > self._max_bytes:
            payload = msgspec.json.encode(Kept(kept.response, []))
        if len(payload) > self._max_bytes:
            raise Conflict(
                f"the response has {len(payload)} bytes; the limit of what is kept is"
                f" {self._max_bytes}: send store=false",
                reason="RESPONSE_TOO_LONG",
            )
        key = _key(tenant, kept.response["id"])
        return await self._bucket.write(key, payload, revision=revision)


def _key(tenant: str, response_id: str) -> str:
    return f"{token(tenant)}.{token(response_id[:200])}"
