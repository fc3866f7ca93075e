"""What all gateways share, in the broker."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.access.key_ring import AccessBucket
from gateway.http.responses.shelf import ShelfBucket
from gateway.quota.quotas import QuotaBucket
from gateway.quota.usage_book import MAX_DAYS, UsageBucket
from gateway.results.result_cache import ResultBucket
from gateway.sessions.bucket import SessionBucket
from gateway.sessions.sessions import SessionStore
from gateway.settings import GatewaySettings
from services.runtime.bounded_bucket import BoundedBucket
from services.runtime.bus import Bus
from services.runtime.key_value import KeyValueBucket
from services.wire.subjects import (
    ACCESS_BUCKET,
    QUOTA_BUCKET,
    RESPONSES_BUCKET,
    RESULTS_BUCKET,
    USAGE_BUCKET,
)

_QUOTA_TTL_S = 300.0
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Stores:
    """One bucket each."""

    sessions: SessionStore
    access: AccessBucket
    quotas: QuotaBucket
    usage: UsageBucket
    responses: ShelfBucket
    results: ResultBucket | None


def open_stores(bus: Bus, settings: GatewaySettings) -> Stores:
    """The stores of a cluster; each bucket is made when it is first needed."""

    def bucket(name: str, what: str, ttl_s: float = 0.0) -> KeyValueBucket:
        return KeyValueBucket(
            bus, name, what=what, ttl_s=ttl_s, num_replicas=settings.queue_num_replicas
        )

    return Stores(
        sessions=SessionBucket(
            bus, ttl_s=settings.session_ttl_s, num_replicas=settings.queue_num_replicas
        ),
        access=bucket(ACCESS_BUCKET, "the key store"),
        quotas=bucket(QUOTA_BUCKET, "the quota store", _QUOTA_TTL_S),
        responses=bucket(RESPONSES_BUCKET, "the store of responses", settings.session_ttl_s),
        results=BoundedBucket(
            bus,
            RESULTS_BUCKET,
            what="the result cache",
            ttl_s=settings.result_cache_ttl_s,
            max_bytes=settings.result_cache_bytes,
            num_replicas=settings.queue_num_replicas,
        )
        if settings.result_cache_bytes
        else None,
        usage=bucket(USAGE_BUCKET, "the usage store", MAX_DAYS * _DAY_S),
    )
