"""Tracing by the standard OTEL_* variables, and W3C context to and from our messages."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from importlib.metadata import version

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.core.request import TraceContext
from services.runtime.tracing.buffer import TraceBuffer
from services.runtime.tracing.keeper import TraceKeeper
from services.runtime.tracing.light_tracer import LightTracer, LightTracerProvider
from services.runtime.tracing.sampling import sampler_by_environment

_PROPAGATOR = TraceContextTextMapPropagator()
_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

tracer = trace.get_tracer("tokenmill")
"""Uses the provider that start_tracing installs; does nothing before, or if tracing is off."""


def start_tracing(
    *, service: str, instance_id: str, max_held_spans: int, slow_s: float | None
) -> TraceKeeper | None:
    """Installs the tracer provider; None if tracing is off.

    Spans are exported over OTLP when an OTEL endpoint variable is set, by http/protobuf unless
    the protocol variable says grpc. OTEL_SDK_DISABLED=true or OTEL_TRACES_EXPORTER=none turn it
    off. Spans that the sampler leaves out are held, in case their request is kept after all.

    Args:
        service: names the process in traces.
        instance_id: which of several it is.
        max_held_spans: of requests that were not sampled.
        slow_s: see TraceKeeper; None unless this process sees how requests end.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    if not any(os.environ.get(name) for name in _ENDPOINT_VARIABLES):
        return None
    resource = Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", f"tokenmill-{service}"),
            "service.namespace": "tokenmill",
            "service.version": version("tokenmill"),
        }
    ).merge(Resource({"service.instance.id": instance_id}))
    keeper = TraceKeeper(
        BatchSpanProcessor(_exporter()),
        resource,
        TraceBuffer(max_spans=max_held_spans),
        slow_ns=None if slow_s is None else round(slow_s * 1e9),
    )
    trace.set_tracer_provider(
        LightTracerProvider(LightTracer(sampler_by_environment(), keeper.take))
    )
    return keeper


def current_trace() -> TraceContext:
    """The current span, as it travels in messages."""
    return trace_of(otel_context.get_current())


def trace_of(context: Context) -> TraceContext:
    """The span of a context, as it travels in messages."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context)
    return TraceContext(carrier.get("traceparent", ""), carrier.get("tracestate", ""))


def context_of(trace_context: TraceContext) -> Context:
    """Context whose current span is the remote one; an empty context if there is none."""
    return context_from_headers(
        {"traceparent": trace_context.traceparent, "tracestate": trace_context.tracestate}
    )


def context_from_headers(headers: Mapping[str, str]) -> Context:
    """Context from W3C headers; keys in lower case."""
    return _PROPAGATOR.extract(headers, Context())


def inject_headers(headers: MutableMapping[str, str], context: Context | None = None) -> None:
    """Adds W3C headers of the current (or given) span."""
    _PROPAGATOR.inject(headers, context)


def _exporter() -> SpanExporter:
    protocol = next((os.environ[name] for name in _PROTOCOL_VARIABLES if name in os.environ), None)
    # Each exporter is imported alone: together they cost every process 200 ms of start-up.
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
        OTLPSpanExporter as HttpExporter,
    )

    return HttpExporter()
