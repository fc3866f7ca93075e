"""Prometheus metrics of one process."""

from __future__ import annotations

from prometheus_client import REGISTRY, Histogram, generate_latest, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from services.runtime import names

RPC_SERVER_DURATION = Histogram(
    names.METRIC_RPC_SERVER_DURATION,
    "Duration of RPCs served, by method and status.",
    ["rpc_method", "rpc_status_code"],
    buckets=names.RPC_DURATION_BUCKETS,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST


def render() -> bytes:
    """All metrics of this process in the Prometheus text format."""
    return generate_latest(REGISTRY)


def serve_metrics(host: str, port: int) -> None:
    """Answers GET /metrics on a thread of its own."""
    start_http_server(port, addr=host)
