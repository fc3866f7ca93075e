"""A histogram for what is observed with every token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class GapHistogram(Collector):
    """Counts without a lock, a fifth of prometheus_client's cost: the event loop alone observes.

    A scrape, on a thread of its own, may see an observation in one figure and not in another.

    Args:
        name: of the metric.
        text: its description.
        labels: names of its labels.
        bounds: upper bounds of the buckets, rising; the last bucket has none.
    """

    def __init__(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = bounds
        self._counts: dict[tuple[str, ...], GapCounts] = {}

    def labels(self, *values: str) -> GapCounts:
        """The histogram of these labels."""
        counts = self._counts.get(values)
        if counts is None:
            counts = self._counts[values] = GapCounts(self._bounds)
        return counts

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """For prometheus_client."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, counts in list(self._counts.items()):
            family.add_metric(values, counts.buckets(), sum_value=counts.sum)
        yield family


class GapCounts:
    """One histogram; `sum` is of all that was observed."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound of each bucket, and what is at or below it."""
        below, out = 0, list[tuple[str, float]]()
        for bound, count in zip((*self._bounds, float("inf")), list(self._counts), strict=True):
            below += count
            out.append((floatToGoString(bound), below))
        return out
