"""The store's counters as Prometheus metrics, read when they are scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cache_service.block_store import BlockStore
from cache_service.disk_tier import DiskTier
from cache_service.policies.choice import PolicyChoice, PolicyName
from cache_service.tiers import TieredStore
from services.runtime import names
from services.runtime.bounded_label import TENANT_LABEL


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
            (names.METRIC_CACHE_PUTS, "Blocks taken.", counters.num_puts),
            (names.METRIC_CACHE_REJECTED, "Blocks turned away.", counters.num_rejected),
        ):
            yield CounterMetricFamily(name, text, value=count)
        misses = CounterMetricFamily(
            names.METRIC_CACHE_MISSES, "Blocks in no tier.", labels=["tenant"]
        )
        for tenant, count in list(counters.misses.items()):
            misses.add_metric([tenant], count)
        yield misses
        tiers = [("memory", memory, self._policies.name)]
        if disk is not None:
            tiers.append(("disk", disk.books, disk.policy))
            yield from _disk_families(disk)
        yield from _tenant_families(tiers)
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


def _tenant_families(tiers: Sequence[tuple[str, BlockStore, PolicyName]]) -> Iterator[Metric]:
    hits, hit_bytes = (
        CounterMetricFamily(name, text, labels=["tier", "tenant"])
        for name, text in (
            (names.METRIC_CACHE_HITS, "Blocks looked up and found."),
            (names.METRIC_CACHE_HIT_BYTES, "Bytes of those."),
        )
    )
    evictions = CounterMetricFamily(
        names.METRIC_CACHE_EVICTIONS,
        "Blocks evicted.",
        labels=["tier", "reason", "policy", "tenant"],
    )
    sizes = GaugeMetricFamily(
        names.METRIC_CACHE_TENANT_SIZE, "Bytes held, by tenant.", labels=["tier", "tenant"]
    )
    for tier, store, policy in tiers:
        # Copies: the event loop goes on counting.
        for tenant, count in list(store.counters.hits.items()):
            hits.add_metric([tier, tenant], count)
        for tenant, count in list(store.counters.hit_bytes.items()):
            hit_bytes.add_metric([tier, tenant], count)
        for (reason, tenant), count in list(store.counters.evictions.items()):
            evictions.add_metric([tier, reason.value, policy.value, tenant], count)
        held: Counter[str] = Counter()
        for tenant, size_bytes in list(store.tenant_bytes.items()):
            held[TENANT_LABEL.of(tenant)] += size_bytes
        for tenant, size_bytes in held.items():
            sizes.add_metric([tier, tenant], size_bytes)
    yield from (hits, hit_bytes, evictions, sizes)
