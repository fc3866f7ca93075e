"""A key-value bucket of limited size: what is oldest makes room."""

from __future__ import annotations

import nats.js.errors
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.kv import KeyValue

from services.runtime.bus import Bus
from services.runtime.key_value import KeyValueBucket


class BoundedBucket(KeyValueBucket):
    """For what can be had again otherwise: a cache.

    Args:
        bus: the broker.
        name: of the bucket.
        what: for messages.
        ttl_s: entries are forgotten this long after they were written.
        max_bytes: of all entries together; the oldest ones go.
        num_replicas: copies in the broker.
    """

    def __init__(
        self, bus: Bus, name: str, *, what: str, ttl_s: float, max_bytes: int, num_replicas: int
    ) -> None:
        super().__init__(bus, name, what=what, ttl_s=ttl_s, num_replicas=num_replicas)
        self._name = name
        # The client's own buckets refuse what is new when they are full.
        self._stream = StreamConfig(
            name=f"KV_{name}",
            subjects=[f"$KV.{name}.>"],
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_bytes=max_bytes,
            max_age=ttl_s,
            max_msgs_per_subject=1,
            duplicate_window=min(120.0, ttl_s),
            num_replicas=num_replicas,
            allow_direct=True,
            allow_rollup_hdrs=True,
            deny_delete=True,
        )

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            try:
                await self._bus.jetstream.add_stream(self._stream)
            except nats.js.errors.BadRequestError:
                # It stands with other settings: ours are in force now.
                await self._bus.jetstream.update_stream(self._stream)
            self._bucket = await self._bus.jetstream.key_value(self._name)
        return self._bucket
