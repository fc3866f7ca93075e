"""The session store on NATS."""

from __future__ import annotations

from services.runtime.bus import Bus
from services.runtime.key_value import KeyValueBucket
from services.wire.subjects import SESSIONS_BUCKET


class SessionBucket(KeyValueBucket):
    """A key-value bucket, shared by all gateways; a session is forgotten ttl_s after its turn."""

    def __init__(self, bus: Bus, *, ttl_s: float, num_replicas: int) -> None:
        super().__init__(
            bus,
            SESSIONS_BUCKET,
            what="the session store",
            ttl_s=ttl_s,
            num_replicas=num_replicas,
        )
