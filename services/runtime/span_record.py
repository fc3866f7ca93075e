"""A finished span as it waits in a process: small, and free of the SDK's locks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, TraceFlags
from opentelemetry.util.types import AttributeValue

_SCOPE = InstrumentationScope("tokenmill")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class SpanRecord(NamedTuple):
    """What is exported of a span.

    Attributes:
        parent: None for a root.
    """

    name: str
    trace_id: int
    span_id: int
    parent: SpanContext | None
    kind: SpanKind
    start_ns: int
    end_ns: int
    status: Status
    attributes: Mapping[str, AttributeValue]
    links: tuple[Link, ...]

    @property
    def is_shared(self) -> bool:
        """Work for several requests: a root of its own, with links to them."""
        return self.parent is None and bool(self.links)

    @property
    def is_entry(self) -> bool:
        """Whether it is a call that came into this process."""
        return self.kind is SpanKind.SERVER

    def overlaps(self, start_ns: int, end_ns: int) -> bool:
        """Whether it went on within a window."""
        return self.start_ns < end_ns and self.end_ns > start_ns


def record_of(span: ReadableSpan) -> SpanRecord:
    """Takes from a finished span what is needed."""
    context = span.get_span_context()
    assert context is not None
    return SpanRecord(
        span.name,
        context.trace_id,
        context.span_id,
        span.parent,
        span.kind,
        span.start_time or 0,
        span.end_time or 0,
        span.status,
        dict(span.attributes or {}),
        tuple(span.links),
    )


def exportable(record: SpanRecord, resource: Resource) -> ReadableSpan:
    """The span again, marked as sampled: exporters pass over others."""
    return ReadableSpan(
        record.name,
        SpanContext(record.trace_id, record.span_id, is_remote=False, trace_flags=_SAMPLED),
        record.parent,
        resource,
        record.attributes,
        (),
        record.links,
        record.kind,
        status=record.status,
        start_time=record.start_ns,
        end_time=record.end_ns,
        instrumentation_scope=_SCOPE,
    )
