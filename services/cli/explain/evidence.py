"""What is known of one request: its spans, the steps around it, the gateway's stamps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from services.cli.traces.span import AttributeValue, StoredSpan
from services.runtime import names

PREFILL, PREEMPTED = "prefill", "preempted"


@dataclass(frozen=True, slots=True)
class Piece:
    """Stamps of one piece of the answer in the gateway, Unix time in ns."""

    arrived_ns: int
    ready_ns: int
    taken_ns: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A slow gap: when the piece before it was taken, and the piece that ended it."""

    since_ns: int
    piece: Piece


@dataclass(frozen=True, slots=True)
class Stream:
    """What the gateway noted of the answer's pieces."""

    first: Piece | None = None
    last: Piece | None = None
    slow_gaps: Sequence[Gap] = ()

    @property
    def pieces(self) -> Iterator[Piece]:
        """All that are known, in order; the first or last may also end a gap."""
        if self.first is not None:
            yield self.first
        for gap in self.slow_gaps:
            yield gap.piece
        if self.last is not None:
            yield self.last


@dataclass(frozen=True, slots=True)
class OwnStep:
    """A step that did something for the request.

    Attributes:
        phase: prefill, decode or preempted.
        num_tokens: the request's own in it.
        num_step_tokens, num_step_prefill_tokens: all that the step computed.
    """

    start_ns: int
    end_ns: int
    phase: str
    num_tokens: int
    num_step_tokens: int
    num_step_prefill_tokens: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one request.

    Attributes:
        spans: of its trace.
        steps: its own, by start.
        other_steps: of the workers that had it, by start, its own included.
    """

    spans: Sequence[StoredSpan]
    steps: Sequence[OwnStep] = ()
    other_steps: Sequence[StoredSpan] = ()
    stream: Stream = field(default_factory=Stream)


def stream_of(answer: StoredSpan | None) -> Stream:
    """Reads the gateway's stamps off the answer's span; empty if they are not there."""
    if answer is None:
        return Stream()
    first = _ints(answer, names.STREAM_FIRST_NS)
    last = _ints(answer, names.STREAM_LAST_NS)
    gaps = _ints(answer, names.STREAM_SLOW_GAPS_NS)
    return Stream(
        Piece(*first) if len(first) == 3 else None,
        Piece(*last) if len(last) == 3 else None,
        [Gap(gaps[i], Piece(*gaps[i + 1 : i + 4])) for i in range(0, len(gaps) - 3, 4)],
    )


def own_steps(trace_id: str, linked: Iterable[StoredSpan]) -> list[OwnStep]:
    """Steps that link to a trace, and what each did for it."""
    steps = [
        OwnStep(
            span.start_ns,
            span.end_ns,
            str(link.attributes.get(names.STEP_PHASE, "")),
            as_int(link.attributes.get(names.NUM_TOKENS)),
            as_int(span.attributes.get(names.NUM_TOKENS)),
            as_int(span.attributes.get(names.NUM_PREFILL_TOKENS)),
        )
        for span in linked
        if span.name == names.SPAN_ENGINE_STEP
        for link in span.links
        if link.trace_id == trace_id
    ]
    return sorted(steps, key=lambda step: step.start_ns)


def made_by(steps: Sequence[OwnStep], since_ns: int, arrived_ns: int) -> int:
    """End of the step that made the first token of a piece.

    It is the first that yielded one after the piece before was taken; where a piece took long on
    its way, that step may be older, and later ones may have ended before it arrived.
    """
    ends = [
        step.end_ns
        for step, after in zip(steps, (*steps[1:], None), strict=True)
        if step.phase != PREEMPTED
        and step.end_ns <= arrived_ns
        and (step.phase != PREFILL or after is None or after.phase != PREFILL)
    ]
    return next((end for end in ends if end > since_ns), ends[-1] if ends else arrived_ns)


def door_span(spans: Sequence[StoredSpan]) -> StoredSpan | None:
    """The gateway's server span, of HTTP or gRPC: the whole request as its client saw it."""
    answer = answer_span(spans)
    parent_id = answer.parent_span_id if answer is not None else ""
    return next((span for span in spans if span.span_id == parent_id), answer)


def answer_span(spans: Sequence[StoredSpan]) -> StoredSpan | None:
    """The gateway's span of the answer itself."""
    return next((span for span in spans if names.GEN_AI_REQUEST_STREAM in span.attributes), None)


def _ints(span: StoredSpan, name: str) -> list[int]:
    value = span.attributes.get(name)
    return [as_int(item) for item in value] if isinstance(value, list) else []


def as_int(value: AttributeValue | None) -> int:
    """An attribute as a number; 0 if it is none."""
    return value if isinstance(value, int) else 0
