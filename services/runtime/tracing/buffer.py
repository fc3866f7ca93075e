"""Spans of requests that may still turn out to be worth keeping."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from opentelemetry.trace import SpanContext

from services.runtime import names
from services.runtime.tracing.span_record import SpanRecord

MAX_KEPT = 10_000


class TraceBuffer:
    """Holds finished spans until their trace is kept, or until there are too many.

    Each span is given back once. Not safe for use by two threads at once.

    Args:
        max_spans: held at most; the trace that was quiet for longest goes first, whole.
    """

    def __init__(self, *, max_spans: int) -> None:
        self._max_spans = max_spans
        self._num_spans = 0
        self._traces: OrderedDict[int, list[SpanRecord]] = OrderedDict()
        # By number of arrival, which is the order of their ends.
        self._shared: dict[int, SpanRecord] = {}
        self._num_shared_ever = 0
        self._kept: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        """Spans held."""
        return self._num_spans + len(self._shared)

    def add(self, span: SpanRecord) -> list[SpanRecord]:
        """Holds a span.

        Returns:
            What is to be exported now: the span, if its trace is sampled or kept, and what was done
            meanwhile for others.
        """
        if self._is_kept(span.context):
            return [span, *self._take_shared(span.trace_id, span.start_ns, span.end_ns)]
        if span.is_shared:
            if any(self._is_kept(link.context) for link in span.links):
                return [span]
            self._shared[self._num_shared_ever] = span
            self._num_shared_ever += 1
            if len(self._shared) > self._max_spans:
                del self._shared[next(iter(self._shared))]
            return []
        self._traces.setdefault(span.trace_id, []).append(span)
        self._traces.move_to_end(span.trace_id)
        self._num_spans += 1
        while self._num_spans > self._max_spans:
            _, dropped = self._traces.popitem(last=False)
            self._num_spans -= len(dropped)
        return []

    def keep(self, trace_id: int) -> list[SpanRecord]:
        """Keeps a trace: what is held of it, and, from `add`, what comes later. Twice is safe."""
        self._kept[trace_id] = None
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        spans = self._traces.pop(trace_id, [])
        if not spans:
            return []
        self._num_spans -= len(spans)
        start_ns = min(span.start_ns for span in spans)
        end_ns = max(span.end_ns for span in spans)
        return [*spans, *self._take_shared(trace_id, start_ns, end_ns)]

    def find(self, request_id: str) -> int | None:
        """Trace of a request that is held; of several the latest."""
        return next(
            (
                span.trace_id
                for span in self._latest_first()
                if span.attributes.get(names.REQUEST_ID) == request_id
            ),
            None,
        )

    def entries(self) -> Iterator[SpanRecord]:
        """Spans with which requests came in, the latest first."""
        return (
            span
            for span in self._latest_first()
            if span.is_entry and names.REQUEST_ID in span.attributes
        )

    def _latest_first(self) -> Iterable[SpanRecord]:
        for spans in reversed(self._traces.values()):
            yield from reversed(spans)

    def _is_kept(self, context: SpanContext) -> bool:
        return context.trace_flags.sampled or context.trace_id in self._kept

    def _take_shared(self, trace_id: int, start_ns: int, end_ns: int) -> list[SpanRecord]:
        """Work in a window that concerns a trace: what links to it, and every engine step.

        Steps for others are why a request waited.
        """
        taken: list[int] = []
        for number, span in reversed(self._shared.items()):
            if span.end_ns <= start_ns:
                break
            if span.overlaps(start_ns, end_ns) and (
                span.name == names.SPAN_ENGINE_STEP
                or any(link.context.trace_id == trace_id for link in span.links)
            ):
                taken.append(number)
        return [self._shared.pop(number) for number in reversed(taken)]
