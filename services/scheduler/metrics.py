"""Prometheus metrics of the scheduler."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from services.runtime import names

QUEUE_DEPTH = Gauge(
    names.METRIC_QUEUE_DEPTH, "Requests in the queue, held ones included.", ("model", "band")
)
QUEUE_DRAIN_RATE = Gauge(
    names.METRIC_QUEUE_DRAIN_RATE,
    "Requests per second that left the queue for a worker by this scheduler.",
    ("model", "band"),
)
REQUESTS_HELD = Gauge(
    names.METRIC_REQUESTS_HELD, "Requests pulled by this scheduler and not settled.", ("model",)
)
DESIRED_WORKERS = Gauge(
    names.METRIC_DESIRED_WORKERS, "Workers that the model should have.", ("model",)
)
WORKERS_READY = Gauge(names.METRIC_WORKERS_READY, "Workers that may be given requests.", ("model",))
SETTLED = Counter(
    names.METRIC_SETTLED, "Requests that left this scheduler, by outcome.", ("model", "outcome")
)
PLACE_SECONDS = Histogram(
    names.METRIC_PLACE_SECONDS,
    "Time of one round of ordering, batching and placing.",
    buckets=names.PLACE_BUCKETS,
)
BUDGET_WASTE = Histogram(
    names.METRIC_BUDGET_WASTE,
    "Share of the prefill budget that a submission left unused while another one followed it.",
    buckets=names.SHARE_BUCKETS,
)
