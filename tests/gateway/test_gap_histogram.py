from __future__ import annotations

from prometheus_client import CollectorRegistry

from gateway.gap_histogram import GapHistogram


def test_it_reads_like_a_histogram_of_prometheus():
    registry = CollectorRegistry()
    histogram = GapHistogram("gap_seconds", "Gaps.", ("model",), (0.1, 0.5))
    registry.register(histogram)
    for value in (0.05, 0.1, 0.3, 7.0):
        histogram.labels("m").observe(value)

    def bucket(bound: str) -> float | None:
        return registry.get_sample_value("gap_seconds_bucket", {"model": "m", "le": bound})

    assert [bucket(bound) for bound in ("0.1", "0.5", "+Inf")] == [2, 3, 4]
    assert registry.get_sample_value("gap_seconds_count", {"model": "m"}) == 4
    assert registry.get_sample_value("gap_seconds_sum", {"model": "m"}) == 7.45
