"""A span as the trace store keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AttributeValue = str | int | float | bool | list[str | int | float | bool]


@dataclass(frozen=True, slots=True)
class SpanLink:
    """Another span that this one has to do with, and in what way."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """One span.

    Attributes:
        parent_span_id: empty for a root.
        kind: internal, server, client, producer or consumer.
        start_ns, end_ns: Unix time.
        is_error: whether its status says so.
    """

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    service: str
    kind: str
    start_ns: int
    end_ns: int
    is_error: bool = False
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    links: tuple[SpanLink, ...] = ()

    @property
    def duration_ns(self) -> int:
        """From start to end."""
        return self.end_ns - self.start_ns
