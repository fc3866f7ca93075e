"""Spans for the tests of this folder."""

from services.cli.traces.span import StoredSpan
from services.runtime.names import REQUEST_ID

TRACE = "a" * 32
OTHER_TRACE = "b" * 32
MS = 1_000_000


def a_span(
    name: str,
    parent: str = "",
    *,
    trace_id: str = TRACE,
    start_ms: int = 0,
    ms: int = 10,
    request_id: str | None = None,
    **fields: object,
) -> StoredSpan:
    """A span whose id is its name, in hexadecimal, as is its parent's."""
    attributes = {REQUEST_ID: request_id} if request_id else {}
    return StoredSpan(
        trace_id=trace_id,
        span_id=name.encode().hex(),
        parent_span_id=parent.encode().hex(),
        name=name,
        service="tokenmill-gateway",
        start_ns=start_ms * MS,
        end_ns=(start_ms + ms) * MS,
        **{"kind": "internal", "attributes": attributes, **fields},  # pyright: ignore[reportArgumentType]
    )
