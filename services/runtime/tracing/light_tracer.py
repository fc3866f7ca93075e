"""Makes spans: the SDK's sampler says which leave at once, all others are recorded as well."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import getrandbits

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TracerProvider,
    get_current_span,
    use_span,
)
from opentelemetry.util.types import Attributes

from services.runtime.tracing.light_span import LightSpan, TakeSpan

_NEW = TraceFlags(TraceFlags.RANDOM_TRACE_ID)
_NEW_SAMPLED = TraceFlags(TraceFlags.RANDOM_TRACE_ID | TraceFlags.SAMPLED)


class LightTracer(Tracer):
    """Starts spans. What begins here, or comes in, is put to the sampler; the rest goes with it.

    Args:
        sampler: says which traces are kept from the start.
        take: given every span that has ended.
    """

    def __init__(self, sampler: Sampler, take: TakeSpan) -> None:
        self._sampler = sampler
        self._take = take

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """As the API has it."""
        parent = get_current_span(context).get_span_context()
        if parent.is_valid and not parent.is_remote:
            own = SpanContext(
                parent.trace_id, getrandbits(64), False, parent.trace_flags, parent.trace_state
            )
        else:
            if not parent.is_valid:
                parent = None
            own = self._sampled(context, parent, name, kind, attributes, links)
        return LightSpan(
            name,
            own,
            parent,
            kind,
            dict(attributes) if attributes else {},
            tuple(links) if links else (),
            time.time_ns() if start_time is None else start_time,
            self._take,
        )

    @contextmanager
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        """As the API has it."""
        with use_span(
            self.start_span(name, context, kind, attributes, links, start_time),
            end_on_exit,
            record_exception,
            set_status_on_exception,
        ) as span:
            yield span

    def _sampled(
        self,
        context: Context | None,
        parent: SpanContext | None,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        links: Sequence[Link] | None,
    ) -> SpanContext:
        trace_id = getrandbits(128) if parent is None else parent.trace_id
        said = self._sampler.should_sample(context, trace_id, name, kind, attributes, links)
        flags = _NEW_SAMPLED if said.decision.is_sampled() else _NEW
        if parent is not None and not parent.trace_flags.random_trace_id:
            flags = TraceFlags(flags & ~TraceFlags.RANDOM_TRACE_ID)
        return SpanContext(trace_id, getrandbits(64), False, flags, said.trace_state)


class LightTracerProvider(TracerProvider):
    """One tracer for all who ask."""

    def __init__(self, tracer: LightTracer) -> None:
        self._tracer = tracer

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        """The tracer."""
        return self._tracer
