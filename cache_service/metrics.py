"""The store's counters as Prometheus metrics, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cache_service.block_store import BlockStore
from cache_service.counters import EvictionReason
from cache_service.policies.choice import PolicyChoice
from services.runtime import names


class StoreCollector(Collector):
    """Reads plain numbers only, so that the scraping thread may run beside the event loop."""

    def __init__(self, store: BlockStore, policies: PolicyChoice) -> None:
        self._store = store
        self._policies = policies

    def collect(self) -> Iterator[Metric]:
        """One family per counter and size."""
        store, counters = self._store, self._store.counters
        for name, text, count in (
            (names.METRIC_CACHE_HITS, "Blocks looked up and found.", counters.num_hits),
            (names.METRIC_CACHE_MISSES, "Blocks looked up and not found.", counters.num_misses),
            (names.METRIC_CACHE_PUTS, "Blocks taken.", counters.num_puts),
            (names.METRIC_CACHE_REJECTED, "Blocks turned away.", counters.num_rejected),
        ):
            yield CounterMetricFamily(name, text, value=count)
        evictions = CounterMetricFamily(
            names.METRIC_CACHE_EVICTIONS, "Blocks evicted.", labels=["reason", "policy"]
        )
        for reason in EvictionReason:
            labels = [reason.value, self._policies.name.value]
            evictions.add_metric(labels, counters.evictions[reason])
        yield evictions
        for name, text, size in (
            (names.METRIC_CACHE_BLOCKS, "Blocks held.", store.num_blocks),
            (names.METRIC_CACHE_SIZE, "Bytes held.", store.size_bytes),
            (names.METRIC_CACHE_CAPACITY, "Most bytes held.", store.limits.capacity_bytes),
        ):
            yield GaugeMetricFamily(name, text, value=size)
