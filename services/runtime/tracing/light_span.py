"""A span that costs a few microseconds: most are held for a while and then thrown away.

It stands in for the SDK's, which costs ten times as much: a lock, copies of all that is set, counts
of its own. No limits of attributes are looked at: what is set here is bounded by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import Attributes, AttributeValue

from services.runtime import names
from services.runtime.tracing.span_record import SpanRecord

_UNSET = Status(StatusCode.UNSET)

TakeSpan = Callable[[SpanRecord], None]
"""Given a span when it has ended, on the thread that ended it."""


class LightSpan(Span):
    """A span that is open. Not safe for use by two threads at once.

    Args:
        name: of the span.
        context: its own.
        parent: None for a root.
        kind: of the span.
        attributes: become the span's own.
        links: to other spans.
        start_ns: when it began.
        take: called once, with the finished span.
    """

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        links: tuple[Link, ...],
        start_ns: int,
        take: TakeSpan,
    ) -> None:
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes = attributes
        self._links = links
        self._start_ns = start_ns
        self._take: TakeSpan | None = take
        self._status = _UNSET

    def end(self, end_time: int | None = None) -> None:
        """Hands the span over. Twice is safe."""
        take, self._take = self._take, None
        if take is None:
            return
        take(
            SpanRecord(
                self._name,
                self._context,
                self._parent,
                self._kind,
                self._start_ns,
                time.time_ns() if end_time is None else end_time,
                self._status,
                self._attributes,
                self._links,
            )
        )

    def get_span_context(self) -> SpanContext:
        """Its identity."""
        return self._context

    def is_recording(self) -> bool:
        """Whether it is open."""
        return self._take is not None

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Sets one."""
        if self._take is not None:
            self._attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Sets several."""
        if self._take is not None:
            self._attributes.update(attributes)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """How it went."""
        self._status = status if isinstance(status, Status) else Status(status, description)

    def update_name(self, name: str) -> None:
        """Gives it another name."""
        self._name = name

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Says of what kind it was, as an attribute: events of spans are on their way out."""
        self._attributes.setdefault(names.ERROR_TYPE, type(exception).__qualname__)

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        """Nothing: a fact is an attribute here, or a line of the log."""
