import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry, Counter, Histogram

from services.runtime.bounded_label import OTHER, BoundedLabel
from services.runtime.metrics import exemplar, render, serve_metrics

OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("vllm:prompt_tokens", "Tokens.", registry=registry).inc(3)
    seconds = Histogram("some_seconds", "Time.", registry=registry)
    seconds.observe(2.0, {"trace_id": "ab" * 16})
    return registry


def test_open_metrics_bear_exemplars_and_keep_the_colon_of_names(registry: CollectorRegistry):
    body, content_type = render(OPEN_METRICS, registry)
    assert content_type.startswith("application/openmetrics-text")
    assert b"vllm:prompt_tokens_total 3.0" in body
    assert b'# {trace_id="abababababababababababababababab"}' in body
    assert body.endswith(b"# EOF\n")


def test_who_does_not_ask_for_open_metrics_gets_plain_text(registry: CollectorRegistry):
    body, content_type = render("*/*", registry)
    assert content_type.startswith("text/plain")
    assert b"vllm:prompt_tokens_total 3.0" in body
    assert b"trace_id" not in body


def test_the_port_answers_metrics_and_nothing_else(registry: CollectorRegistry):
    port = serve_metrics("127.0.0.1", 0, registry)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        reply = client.get("/metrics", headers={"accept": OPEN_METRICS})
        assert (reply.status_code, reply.text.splitlines()[-1]) == (200, "# EOF")
        assert client.get("/").status_code == 404


def test_a_trace_that_is_not_kept_is_no_exemplar():
    kept = TracerProvider().get_tracer("test").start_span("a")
    dropped = TracerProvider(sampler=ALWAYS_OFF).get_tracer("test").start_span("a")
    assert exemplar(kept) == {"trace_id": f"{kept.get_span_context().trace_id:032x}"}
    assert exemplar(dropped) is None


def test_values_beyond_the_bound_share_one_label():
    label = BoundedLabel(max_values=2)
    assert [label.of(value) for value in "abcab"] == ["a", "b", OTHER, "a", "b"]
