"""Which requests are kept from the start, and which because of how they ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, StatusCode, TraceState
from opentelemetry.util.types import Attributes

from services.runtime import names
from services.runtime.tracing.span_record import SpanRecord

SAMPLER_VARIABLE = "OTEL_TRACES_SAMPLER"
NUM_AT_ONCE = 20
PER_S = 0.2
"""A quiet cluster keeps everything; a busy one a request every five seconds."""

# A fault of the server, by the RPC semantic conventions.
SERVER_FAULTS = frozenset(
    {
        "UNKNOWN",
        "DEADLINE_EXCEEDED",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    }
)


class FirstFew(Sampler):
    """Samples requests up to a rate, beginning with a few at once; nothing but requests.

    Args:
        num_at_once: after a pause that is long enough.
        per_s: in the long run.
        clock: seconds.
    """

    def __init__(
        self, num_at_once: int, per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = self._left = float(num_at_once)
        self._per_s = per_s
        self._clock = clock
        self._at_s = clock()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Says yes while there is something left."""
        if kind is not SpanKind.SERVER or not self._take():
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        """For the SDK."""
        return f"FirstFew{{{self._most},{self._per_s}/s}}"

    def _take(self) -> bool:
        now_s = self._clock()
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


def sampler_by_environment() -> Sampler:
    """The user's sampler if the environment names one, else ours."""
    if os.environ.get(SAMPLER_VARIABLE):
        # Made for its sampler alone: reading the environment is the SDK's own business.
        return TracerProvider(shutdown_on_exit=False).sampler
    return ParentBased(FirstFew(NUM_AT_ONCE, PER_S))


def is_notable(span: SpanRecord, *, slow_ns: int) -> bool:
    """Whether a gateway's span says that its request is worth keeping: it failed or was slow.

    A caller's own fault is no failure, and neither is a caller that left; a request that lost a
    worker is notable though it may have ended well.
    """
    if span.status.status_code is StatusCode.ERROR:
        fault = str(span.attributes.get(names.ERROR_TYPE, ""))
        if fault in SERVER_FAULTS or fault.isdecimal():
            return True
    attempt = span.attributes.get(names.ATTEMPT, 1)
    if isinstance(attempt, int) and attempt > 1:
        return True
    return span.is_entry and span.end_ns - span.start_ns >= slow_ns
