"""Prometheus metrics of the scheduler."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from services.runtime import names
from services.scheduler.batching import Batch, BatchLimits

QUEUE_DEPTH = Gauge(
    names.METRIC_QUEUE_DEPTH, "Requests in the queue, held ones included.", ("model", "band")
)
QUEUE_DRAIN_RATE = Gauge(
    names.METRIC_QUEUE_DRAIN_RATE,
    "Requests per second that left the queue for a worker by this scheduler.",
    ("model", "band"),
)
QUEUE_WAIT = Histogram(
    names.METRIC_QUEUE_WAIT,
    "From the queue's hand until a worker was chosen for the first time.",
    ("model", "band"),
    buckets=names.REQUEST_DURATION_BUCKETS,
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
PLACED_TOKENS = Counter(
    names.METRIC_PLACED_TOKENS,
    "Prompt tokens of placed requests: those that the chosen worker held, by the index of blocks,"
    " and those that it had to compute.",
    ("model", "state"),
)
SUBMISSION_SIZE = Histogram(
    names.METRIC_SUBMISSION_SIZE, "Requests of a submission.", buckets=names.COUNT_BUCKETS
)
BUDGET_WASTE = Histogram(
    names.METRIC_BUDGET_WASTE,
    "Share of the prefill budget that a submission left unused while another one followed it.",
    buckets=names.SHARE_BUCKETS,
)


def count_submission(batch: Batch, limits: BatchLimits) -> None:
    """A batch goes to its worker."""
    SUBMISSION_SIZE.observe(len(batch.requests))
    if batch.is_followed:
        BUDGET_WASTE.observe(batch.waste(limits))
    for entry, num_missing in zip(batch.requests, batch.missing_tokens, strict=True):
        model, num_prompt = entry.request.model, entry.num_prompt_tokens
        PLACED_TOKENS.labels(model, "held").inc(max(0, num_prompt - num_missing))
        PLACED_TOKENS.labels(model, "missing").inc(min(num_prompt, num_missing))
