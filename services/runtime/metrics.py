"""Prometheus metrics: those that every process has, exemplars, and the answer to a scrape."""

from __future__ import annotations

import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.trace import Span
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics

from services.runtime import names

# A series of its own for the start of each series doubles what is scraped and tells little.
disable_created_metrics()

_RPC_LABELS = ("rpc_method", "rpc_status_code")
_BUS_LABELS = (
    "messaging_system",
    "messaging_operation_name",
    "messaging_destination_template",
)

RPC_SERVER_DURATION = Histogram(
    names.METRIC_RPC_SERVER_DURATION,
    "Duration of RPCs served, by method and status.",
    _RPC_LABELS,
    buckets=names.RPC_DURATION_BUCKETS,
)
RPC_CLIENT_DURATION = Histogram(
    names.METRIC_RPC_CLIENT_DURATION,
    "Duration of RPCs made, by method and status.",
    _RPC_LABELS,
    buckets=names.RPC_DURATION_BUCKETS,
)
BUS_OPERATION_DURATION = Histogram(
    names.METRIC_BUS_OPERATION_DURATION,
    "Duration of calls to the broker that wait for its answer.",
    (*_BUS_LABELS, "error_type"),
    buckets=names.RPC_DURATION_BUCKETS,
)
BUS_PROCESS_DURATION = Histogram(
    names.METRIC_BUS_PROCESS_DURATION,
    "From taking a message of the queue until it was settled, the search for a worker included.",
    _BUS_LABELS,
    buckets=names.REQUEST_DURATION_BUCKETS,
)
BUS_SENT = Counter(names.METRIC_BUS_SENT, "Messages given to the broker.", _BUS_LABELS)
BUS_CONSUMED = Counter(names.METRIC_BUS_CONSUMED, "Messages taken of the queue.", _BUS_LABELS)

_PLAIN = "text/plain; version=0.0.4; charset=utf-8"
_OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def exemplar(span: Span) -> dict[str, str] | None:
    """What links an observation to its trace; None if the trace is not kept."""
    context = span.get_span_context()
    return {"trace_id": f"{context.trace_id:032x}"} if context.trace_flags.sampled else None


def render(accept: str = "", registry: CollectorRegistry = REGISTRY) -> tuple[bytes, str]:
    """All metrics of this process, and their content type.

    Args:
        accept: header of the scrape. OpenMetrics is answered to who asks for it; only there are
            exemplars.
        registry: whose metrics.
    """
    if "application/openmetrics-text" in accept:
        # Not the library's own choice: it turns the colon in `vllm:` names, which is a legal
        # character, into an underscore, and dashboards would find nothing.
        return openmetrics.generate_latest(registry, escaping=openmetrics.ALLOWUTF8), _OPEN_METRICS
    return generate_latest(registry), _PLAIN


def serve_metrics(host: str, port: int, registry: CollectorRegistry = REGISTRY) -> int:
    """Answers GET /metrics on a thread of its own, for the life of the process; returns the port.

    Raises:
        OSError: the address is taken.
    """
    server = ThreadingHTTPServer((host, port), partial(_Scrape, registry))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


class _Scrape(BaseHTTPRequestHandler):
    # Prometheus keeps its connection.
    protocol_version = "HTTP/1.1"
    timeout = 60

    def __init__(self, registry: CollectorRegistry, *arguments: object) -> None:
        self._registry = registry
        super().__init__(*arguments)  # pyright: ignore[reportArgumentType]

    def do_GET(self) -> None:
        """Answers one scrape."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        body, content_type = render(self.headers.get("Accept", ""), self._registry)
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not news."""
