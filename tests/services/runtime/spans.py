"""Finished spans for tests."""

from __future__ import annotations

from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from services.runtime.tracing.span_record import SpanRecord

# Statuses compare by identity.
_OK, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


def context(trace_id: int, span_id: int = 1, *, is_sampled: bool = False) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)


def a_span(
    trace_id: int,
    name: str = "work",
    *,
    start_ns: int = 0,
    end_ns: int = 10,
    kind: SpanKind = SpanKind.INTERNAL,
    is_sampled: bool = False,
    error_type: str = "",
    **attributes: str | int,
) -> SpanRecord:
    status = _ERROR if error_type else _OK
    own = {key.replace("__", "."): value for key, value in attributes.items()}
    if error_type:
        own["error.type"] = error_type
    parent = None if kind is SpanKind.SERVER else context(trace_id)
    identity = context(trace_id, 7, is_sampled=is_sampled)
    return SpanRecord(name, identity, parent, kind, start_ns, end_ns, status, own, ())


def a_step(*links: SpanContext, start_ns: int = 0, end_ns: int = 10) -> SpanRecord:
    own = a_span(99, "engine.step", start_ns=start_ns, end_ns=end_ns)
    return own._replace(parent=None, links=tuple(Link(one) for one in links))
