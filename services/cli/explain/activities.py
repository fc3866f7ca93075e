"""What was going on for a request, ranked so that it can pay for time. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from services.cli.explain.evidence import PREEMPTED as PREEMPTED_PHASE
from services.cli.explain.evidence import PREFILL as PREFILL_PHASE
from services.cli.explain.evidence import Evidence, OwnStep, as_int, door_span
from services.cli.explain.parts import (
    ADMISSION,
    BETWEEN_STEPS,
    CLIENT,
    DECODE,
    DETOKENIZING,
    DOOR,
    INTERFERENCE,
    KV_LOAD,
    LIMITS,
    NETWORK,
    PLACEMENT,
    PREEMPTION,
    PREFILL,
    PUBLISH,
    QUEUE_WAIT,
    RECOVERY,
    SUBMIT,
    TOKENIZING,
)
from services.cli.explain.timeline import Activity
from services.cli.traces.span import StoredSpan
from services.runtime import names

# What a worker does pays before who waits for it, and what is particular before what is around it.
_TOKENIZE = "TokenizerService/Tokenize"
_STEP, _INSIDE, _CALL, _OTHERS, _AROUND, _LAST_RESORT = range(6)


def activities(evidence: Evidence) -> list[Activity]:
    """Everything that can pay for time, ranked."""
    found: list[Activity] = []
    for span in evidence.spans:
        found.extend(_of_span(span))
    found.extend(_of_steps(evidence.steps))
    found.extend(_of_others(evidence))
    found.extend(_of_queue(evidence.spans))
    found.extend(_of_door(evidence))
    found.extend(_of_delivery(evidence))
    return found


def _of_span(span: StoredSpan) -> Iterator[Activity]:
    start_ns, end_ns = span.start_ns, span.end_ns
    match span.name:
        case names.SPAN_CACHE_FETCH:
            yield Activity(KV_LOAD, _INSIDE, start_ns, end_ns)
        case names.SPAN_GATEWAY_LIMITS:
            yield Activity(LIMITS, _INSIDE, start_ns, end_ns)
        case names.SPAN_SCHEDULER_PLACE:
            yield Activity(SUBMIT, _CALL, start_ns, end_ns)
            decided_ns = as_int(span.attributes.get(names.PLACEMENT_STARTED_NS))
            if decided_ns:
                yield Activity(PLACEMENT, _CALL, decided_ns, start_ns)
        case names.SPAN_WORKER_REQUEST:
            yield Activity(SUBMIT, _AROUND, start_ns, end_ns)
        case names.SPAN_ENGINE_PREFILL:
            yield Activity(ADMISSION, _AROUND, start_ns, end_ns)
        case names.SPAN_ENGINE_DECODE:
            yield Activity(BETWEEN_STEPS, _AROUND, start_ns, end_ns)
        case name if name.endswith(_TOKENIZE) and span.kind == "client":
            yield Activity(TOKENIZING, _CALL, start_ns, end_ns)
        case _ if span.kind == "producer":
            yield Activity(PUBLISH, _INSIDE, start_ns, end_ns)
        case _:
            pass


def _of_steps(steps: Sequence[OwnStep]) -> Iterator[Activity]:
    """A step's time goes to its requests' own tokens first, then to the others' prefill in it.

    A step that only decodes is the request's own, however many decode with it: that is what a batch
    is for. In a step with prompt tokens of others, they pay by their share of all its tokens.
    """
    has_token = False
    preempted_ns = 0
    for step in steps:
        if step.phase == PREEMPTED_PHASE:
            preempted_ns = preempted_ns or step.end_ns
            continue
        if preempted_ns:
            yield Activity(PREEMPTION, _INSIDE, preempted_ns, step.start_ns)
        is_prefill = step.phase == PREFILL_PHASE
        recomputes = is_prefill and (has_token or preempted_ns > 0)
        own = PREEMPTION if recomputes else PREFILL if is_prefill else DECODE
        has_token = has_token or not is_prefill
        preempted_ns = preempted_ns if is_prefill else 0
        others = step.num_step_prefill_tokens - (step.num_tokens if is_prefill else 0)
        total = max(step.num_step_tokens, 1)
        split_ns = step.end_ns - (step.end_ns - step.start_ns) * max(others, 0) // total
        yield Activity(own, _STEP, step.start_ns, split_ns)
        yield Activity(INTERFERENCE, _STEP, split_ns, step.end_ns)


def _of_others(evidence: Evidence) -> Iterator[Activity]:
    """Steps of its worker without it, while the engine had it."""
    held = [
        span
        for span in evidence.spans
        if span.name in (names.SPAN_ENGINE_PREFILL, names.SPAN_ENGINE_DECODE)
    ]
    for step in evidence.other_steps:
        for span in held:
            if step.start_ns < span.end_ns and step.end_ns > span.start_ns:
                start_ns, end_ns = max(step.start_ns, span.start_ns), min(step.end_ns, span.end_ns)
                yield Activity(INTERFERENCE, _OTHERS, start_ns, end_ns)


def _of_queue(spans: Sequence[StoredSpan]) -> Iterator[Activity]:
    """From published until a worker is asked; what lies between two attempts is recovery."""
    published = sorted((s for s in spans if s.kind == "producer"), key=lambda s: s.start_ns)
    places = [s for s in spans if s.name == names.SPAN_SCHEDULER_PLACE]
    for idx, publish in enumerate(published):
        until_ns = published[idx + 1].start_ns if idx + 1 < len(published) else None
        own = [
            place
            for place in places
            if place.start_ns >= publish.start_ns
            and (until_ns is None or place.start_ns < until_ns)
        ]
        if own:
            yield Activity(QUEUE_WAIT, _LAST_RESORT, publish.end_ns, max(p.start_ns for p in own))
        if own and until_ns is not None:
            yield Activity(RECOVERY, _LAST_RESORT, max(p.end_ns for p in own), until_ns)


def _of_door(evidence: Evidence) -> Iterator[Activity]:
    """The gateway's own time: before the request is queued, and after its last piece is taken."""
    root = door_span(evidence.spans)
    if root is None:
        return
    published = [span.start_ns for span in evidence.spans if span.kind == "producer"]
    last = evidence.stream.last
    yield Activity(DOOR, _LAST_RESORT, root.start_ns, min(published, default=root.end_ns))
    if last is not None:
        yield Activity(DOOR, _LAST_RESORT, last.taken_ns, root.end_ns)


def _of_delivery(evidence: Evidence) -> Iterator[Activity]:
    step_ends = [step.end_ns for step in evidence.steps if step.phase != PREEMPTED_PHASE]
    for piece in evidence.stream.pieces:
        idx = bisect_right(step_ends, piece.arrived_ns)
        if idx:
            yield Activity(NETWORK, _CALL, step_ends[idx - 1], piece.arrived_ns)
        yield Activity(DETOKENIZING, _CALL, piece.arrived_ns, piece.ready_ns)
        yield Activity(CLIENT, _CALL, piece.ready_ns, piece.taken_ns)
