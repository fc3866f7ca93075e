from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from services.core.request import TraceContext
from services.runtime.telemetry import context_of, start_tracing, trace_of


def test_a_span_survives_a_message():
    span = TracerProvider().get_tracer("test").start_span("work")
    sent = trace_of(trace.set_span_in_context(span))
    back = trace.get_current_span(context_of(sent)).get_span_context()
    assert back.span_id == span.get_span_context().span_id
    assert back.is_remote


def test_no_trace_is_no_span():
    assert not trace.get_current_span(context_of(TraceContext())).get_span_context().is_valid


def test_without_an_endpoint_tracing_is_off(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert start_tracing(service="test", instance_id="1", max_held_spans=10, slow_s=None) is None
