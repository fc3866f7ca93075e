"""The store's counters as Prometheus metrics, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cache_service.counters import EvictionReason
from cache_service.disk_tier import DiskTier
from cache_service.policies.choice import PolicyChoice
from cache_service.tiers import TieredStore
from services.runtime import names


class StoreCollector(Collector):
    """Reads plain numbers only, so that the scraping thread may run beside the event loop."""

    def __init__(self, store: TieredStore, policies: PolicyChoice) -> None:
        self._store = store
        self._policies = policies

    def collect(self) -> Iterator[Metric]:
        """One family per counter and size."""
        memory, disk = self._store.memory, self._store.disk
        counters = memory.counters
        for name, text, count in (
            (names.METRIC_CACHE_MISSES, "Blocks in no tier.", counters.num_misses),
            (names.METRIC_CACHE_PUTS, "Blocks taken.", counters.num_puts),
            (names.METRIC_CACHE_REJECTED, "Blocks turned away.", counters.num_rejected),
        ):
            yield CounterMetricFamily(name, text, value=count)
        tiers = [("memory", memory, self._policies.name)]
        if disk is not None:
            tiers.append(("disk", disk.books, disk.policy))
            yield from _disk_families(disk)
        hits = CounterMetricFamily(
            names.METRIC_CACHE_HITS, "Blocks looked up and found.", labels=["tier"]
        )
        evictions = CounterMetricFamily(
            names.METRIC_CACHE_EVICTIONS, "Blocks evicted.", labels=["tier", "reason", "policy"]
        )
        for tier, store, policy in tiers:
            hits.add_metric([tier], store.counters.num_hits)
            for reason in EvictionReason:
                count = store.counters.evictions[reason]
                evictions.add_metric([tier, reason.value, policy.value], count)
        yield hits
        yield evictions
        for name, text, read in (
            (names.METRIC_CACHE_BLOCKS, "Blocks held.", lambda store: store.num_blocks),
            (names.METRIC_CACHE_SIZE, "Bytes held.", lambda store: store.size_bytes),
            (
                names.METRIC_CACHE_CAPACITY,
                "Most bytes held.",
                lambda store: store.limits.capacity_bytes,
            ),
        ):
            sizes = GaugeMetricFamily(name, text, labels=["tier"])
            for tier, store, _ in tiers:
                sizes.add_metric([tier], read(store))
            yield sizes


def _disk_families(disk: DiskTier) -> Iterator[Metric]:
    for name, text, count in (
        (names.METRIC_CACHE_DISK_DROPPED, "Blocks not written: too many waited.", disk.num_dropped),
        (names.METRIC_CACHE_DISK_TORN, "Blocks that were not read as written.", disk.num_torn),
        (names.METRIC_CACHE_DISK_LOAD, "Seconds spent reading blocks.", disk.load_s),
    ):
        yield CounterMetricFamily(name, text, value=count)
