"""The session store on NATS."""

from __future__ import annotations

import nats.errors
import nats.js.errors
from nats.js.api import KeyValueConfig, StorageType
from nats.js.kv import KeyValue

from services.core.errors import Conflict, DependencyLost
from services.runtime.bus import Bus
from services.wire.subjects import SESSIONS_BUCKET


class SessionBucket:
    """A key-value bucket, created when first needed and shared by all gateways."""

    def __init__(self, bus: Bus, *, ttl_s: float, num_replicas: int) -> None:
        self._bus = bus
        self._config = KeyValueConfig(
            bucket=SESSIONS_BUCKET,
            history=1,
            ttl=ttl_s,
            storage=StorageType.FILE,
            replicas=num_replicas,
        )
        self._bucket: KeyValue | None = None

    async def read(self, key: str) -> tuple[bytes, int]:
        """Value and revision; empty and 0 if there is none."""
        try:
            entry = await (await self._open()).get(key)
        except nats.js.errors.KeyNotFoundError:
            return b"", 0
        except (nats.errors.Error, nats.js.errors.Error, OSError) as exc:
            raise self._lost(exc) from exc
        return entry.value or b"", entry.revision or 0

    async def write(self, key: str, value: bytes, *, revision: int) -> int:
        """Replaces the value if it still has this revision."""
        try:
            bucket = await self._open()
            return await bucket.update(key, value, last=revision)
        except nats.js.errors.KeyWrongLastSequenceError as exc:
            raise Conflict("somebody else changed this session meanwhile") from exc
        except (nats.errors.Error, nats.js.errors.Error, OSError) as exc:
            raise self._lost(exc) from exc

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            try:
                self._bucket = await self._bus.jetstream.create_key_value(self._config)
            except nats.js.errors.BadRequestError:
                # It stands with another time to live: an operator's business, not a request's.
                self._bucket = await self._bus.jetstream.key_value(SESSIONS_BUCKET)
        return self._bucket

    def _lost(self, exc: Exception) -> DependencyLost:
        self._bucket = None
        return DependencyLost(f"the session store does not answer: {exc!r}")
