"""A finished span as it waits in a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, TraceFlags
from opentelemetry.util.types import AttributeValue

_SCOPE = InstrumentationScope("tokenmill")


class SpanRecord(NamedTuple):
    """What is exported of a span.

    Attributes:
        context: its own.
        parent: None for a root.
    """

    name: str
    context: SpanContext
    parent: SpanContext | None
    kind: SpanKind
    start_ns: int
    end_ns: int
    status: Status
    attributes: Mapping[str, AttributeValue]
    links: tuple[Link, ...]

    @property
    def trace_id(self) -> int:
        """The trace that it is part of."""
        return self.context.trace_id

    @property
    def is_sampled(self) -> bool:
        """Whether its trace is kept from the start."""
        return self.context.trace_flags.sampled

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


def exportable(record: SpanRecord, resource: Resource) -> ReadableSpan:
    """The span as exporters take it: marked as sampled, for they pass over others."""
    trace_id, span_id, is_remote, flags, state, _ = record.context
    return ReadableSpan(
        record.name,
        SpanContext(trace_id, span_id, is_remote, TraceFlags(flags | TraceFlags.SAMPLED), state),
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
