"""Prometheus metrics of the gateway."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from gateway.requests.live_requests import LiveRequests
from services.runtime import names
from services.runtime.bounded_label import TENANT_LABEL

_GEN_AI_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

REQUEST_DURATION = Histogram(
    names.METRIC_REQUEST_DURATION,
    "From acceptance to the end of the answer.",
    (*_GEN_AI_LABELS, "error_type"),
    buckets=names.REQUEST_DURATION_BUCKETS,
)
TIME_TO_FIRST_TOKEN = Histogram(
    names.METRIC_TIME_TO_FIRST_TOKEN,
    "From acceptance to the first token.",
    _GEN_AI_LABELS,
    buckets=names.TIME_TO_FIRST_TOKEN_BUCKETS,
)
TIME_PER_OUTPUT_TOKEN = Histogram(
    names.METRIC_TIME_PER_OUTPUT_TOKEN,
    "Mean time per token after the first.",
    _GEN_AI_LABELS,
    buckets=names.TIME_PER_OUTPUT_TOKEN_BUCKETS,
)
HTTP_DURATION = Histogram(
    names.METRIC_HTTP_DURATION,
    "Duration of HTTP requests, answer included.",
    ("http_request_method", "http_route", "http_response_status_code"),
    buckets=names.REQUEST_DURATION_BUCKETS,
)
TOKENS = Counter(
    names.METRIC_TOKENS, "Tokens of finished answers, by type.", ("gen_ai_request_model", "type")
)
REQUESTS_RUNNING = Gauge(names.METRIC_REQUESTS_RUNNING, "Requests that a worker delivers for.")
REQUESTS_QUEUED = Gauge(names.METRIC_REQUESTS_QUEUED, "Requests that wait for a worker.")
REQUESTS_REFUSED = Counter(
    names.METRIC_REQUESTS_REFUSED,
    "Requests that were not let in, by reason: limits, overload, faults of the request.",
    ("reason",),
)
TENANT_REQUESTS = Counter(
    names.METRIC_TENANT_REQUESTS,
    "Requests that ended, by tenant; further tenants share one series.",
    ("tenant", "error_type"),
)
TENANT_TOKENS = Counter(
    names.METRIC_TENANT_TOKENS,
    "Tokens of finished answers, by tenant; further tenants share one series.",
    ("tenant", "type"),
)
ATTEMPTS_PAUSED = Counter(
    names.METRIC_ATTEMPTS_PAUSED, "Attempts ended because their client did not read."
)
RESULT_CACHE = Counter(
    names.METRIC_RESULT_CACHE, "Asks of the result cache: hit, miss, bypass.", ("outcome",)
)
ATTEMPTS_LOST = Counter(names.METRIC_ATTEMPTS_LOST, "Attempts whose worker was lost.")
WORKERS_CONNECTED = Gauge(names.METRIC_WORKERS_CONNECTED, "Deliver streams that stand.")


def watch_live_requests(live_requests: LiveRequests, *, max_tenants: int) -> None:
    """Lets the gauges count these requests when they are read.

    Args:
        live_requests: of this process.
        max_tenants: that have series of their own.
    """
    TENANT_LABEL.max_values = max_tenants
    REQUESTS_RUNNING.set_function(lambda: live_requests.num_running)
    REQUESTS_QUEUED.set_function(lambda: len(live_requests) - live_requests.num_running)
