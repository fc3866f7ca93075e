"""What becomes of a finished span: it is exported, or held until its request is judged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor

from services.runtime.tracing.buffer import TraceBuffer
from services.runtime.tracing.sampling import is_notable
from services.runtime.tracing.span_record import SpanRecord, exportable


class TraceKeeper:
    """Exports spans of kept traces through a processor of the SDK. Any thread may end spans.

    Args:
        exporting: takes spans that are to leave.
        resource: of this process.
        buffer: holds the others.
        slow_ns: a request that took so long is kept; None: this process does not judge, it is told.
    """

    def __init__(
        self,
        exporting: SpanProcessor,
        resource: Resource,
        buffer: TraceBuffer,
        *,
        slow_ns: int | None,
    ) -> None:
        self._exporting = exporting
        self._resource = resource
        self._buffer = buffer
        self._slow_ns = slow_ns
        self._lock = threading.Lock()
        self.tell: Callable[[int], object] = lambda _: None
        """Called with each trace that this process judged worth keeping."""

    @property
    def judges(self) -> bool:
        """Whether this process sees how requests end."""
        return self._slow_ns is not None

    def take(self, span: SpanRecord) -> None:
        """Takes a finished span."""
        with self._lock:
            self._export(self._buffer.add(span))
            if span.is_sampled or self._slow_ns is None:
                return
            if not is_notable(span, slow_ns=self._slow_ns):
                return
            self._export(self._buffer.keep(span.trace_id))
        self.tell(span.trace_id)

    def keep(self, trace_id: int) -> None:
        """Exports what is held of a trace, and what comes of it. Twice is safe."""
        with self._lock:
            self._export(self._buffer.keep(trace_id))

    def export(self) -> None:
        """Exports now what would leave within seconds; waits until it has left."""
        self._exporting.force_flush()

    def find(self, request_id: str) -> int | None:
        """Trace of a request that is held here."""
        with self._lock:
            return self._buffer.find(request_id)

    def latencies(self) -> list[tuple[int, int]]:
        """Nanoseconds at the door, and trace, of each request held here; the latest first."""
        with self._lock:
            return [(span.end_ns - span.start_ns, span.trace_id) for span in self._buffer.entries()]

    def shutdown(self) -> None:
        """Exports what is to leave; what was not judged is gone."""
        self._exporting.shutdown()

    def _export(self, records: Iterable[SpanRecord]) -> None:
        for record in records:
            self._exporting.on_end(exportable(record, self._resource))
