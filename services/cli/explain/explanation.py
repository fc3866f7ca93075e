"""The budget of one request: its latency, its time to first token, its slow gaps. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.cli.explain.activities import activities
from services.cli.explain.evidence import (
    PREEMPTED,
    Evidence,
    Piece,
    Stream,
    answer_span,
    door_span,
    made_by,
)
from services.cli.explain.timeline import Stretch, Window, stretches, sum_by_part
from services.cli.traces.span import StoredSpan
from services.runtime import names

_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Budget:
    """A window of the request and what paid for it; parts and rest sum to the duration exactly.

    Attributes:
        stretches: in order; an empty part is not attributed.
    """

    window: Window
    stretches: Sequence[Stretch]

    @property
    def ms(self) -> float:
        """The whole."""
        return self.window.duration_ns / _NS_PER_MS

    @property
    def parts_ms(self) -> Mapping[str, float]:
        """By part, largest first; without what is not attributed."""
        sums = sum_by_part(self.stretches)
        sums.pop("", None)
        ordered = sorted(sums.items(), key=lambda item: -item[1])
        return {part: ns / _NS_PER_MS for part, ns in ordered}

    @property
    def unattributed_ms(self) -> float:
        """What no part pays for."""
        return sum_by_part(self.stretches).get("", 0) / _NS_PER_MS


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where the time of one request went.

    Attributes:
        latency: from the first byte at the door to the last.
        ttft: from the same moment until the client had the first token; None if none came.
        slow_gaps: the slowest between pieces of the answer, slowest first.
        facts: of the request, such as tokens and the worker's name.
    """

    trace_id: str
    request_id: str
    latency: Budget
    ttft: Budget | None
    slow_gaps: Sequence[Budget]
    facts: Mapping[str, object]


def explain(trace_id: str, evidence: Evidence) -> Explanation | None:
    """Explains a request; None if the gateway's span of it is not there."""
    door = door_span(evidence.spans)
    answer = answer_span(evidence.spans)
    if door is None or answer is None:
        return None
    stream = evidence.stream
    first = stream.first
    gaps = [_budget_until(gap.piece, gap.since_ns, evidence) for gap in stream.slow_gaps]
    return Explanation(
        trace_id=trace_id,
        request_id=str(door.attributes.get(names.REQUEST_ID, "")),
        latency=_budget(Window(door.start_ns, door.end_ns), evidence),
        ttft=_budget_until(first, door.start_ns, evidence) if first is not None else None,
        slow_gaps=sorted(gaps, key=lambda gap: -gap.window.duration_ns),
        facts=_facts(evidence),
    )


def explanation_as_json(explanation: Explanation) -> dict[str, object]:
    """As `tokenmill explain --json` prints it."""
    ttft = explanation.ttft
    return {
        "request_id": explanation.request_id,
        "trace_id": explanation.trace_id,
        "latency_ms": explanation.latency.ms,
        "parts_ms": dict(explanation.latency.parts_ms),
        "unattributed_ms": explanation.latency.unattributed_ms,
        "ttft_ms": ttft.ms if ttft is not None else None,
        "ttft_parts_ms": dict(ttft.parts_ms) if ttft is not None else {},
        "ttft_unattributed_ms": ttft.unattributed_ms if ttft is not None else 0.0,
        "slow_gaps": [
            {
                "since_start_ms": (gap.window.start_ns - explanation.latency.window.start_ns)
                / _NS_PER_MS,
                "ms": gap.ms,
                "parts_ms": dict(gap.parts_ms),
                "unattributed_ms": gap.unattributed_ms,
            }
            for gap in explanation.slow_gaps
        ],
        "facts": dict(explanation.facts),
    }


def _budget(window: Window, evidence: Evidence) -> Budget:
    return Budget(window, stretches(window, activities(evidence)))


def _budget_until(piece: Piece, since_ns: int, evidence: Evidence) -> Budget:
    """Up to one piece; steps and deliveries that overlap its own are other tokens' business."""
    made_ns = made_by(evidence.steps, since_ns, piece.arrived_ns)
    before = replace(
        evidence,
        steps=[step for step in evidence.steps if step.end_ns <= made_ns],
        other_steps=[step for step in evidence.other_steps if step.end_ns <= made_ns],
        stream=Stream(first=piece),
    )
    return _budget(Window(since_ns, piece.taken_ns), before)


_FACTS = {
    names.GEN_AI_REQUEST_MODEL: "model",
    names.REQUEST_CLASS: "class",
    names.GEN_AI_USAGE_INPUT_TOKENS: "prompt_tokens",
    names.GEN_AI_USAGE_CACHED_TOKENS: "cached_tokens",
    names.GEN_AI_USAGE_OUTPUT_TOKENS: "output_tokens",
    names.GEN_AI_RESPONSE_FINISH_REASONS: "finish",
    names.ATTEMPT: "attempts",
    names.ERROR_TYPE: "error",
}
_PLACE_FACTS = {
    names.WORKER_ID: "worker",
    names.BATCH_SIZE: "batch",
    names.NUM_BEFORE_BY_CLASS: "before_it_by_class",
    names.NUM_BEFORE_BY_TURN: "before_it_by_turn",
    names.NO_ROOM_MS: "no_room_ms",
}


def _facts(evidence: Evidence) -> dict[str, object]:
    answer = answer_span(evidence.spans)
    facts: dict[str, object] = {}
    if answer is not None:
        facts.update(
            {short: answer.attributes[n] for n, short in _FACTS.items() if n in answer.attributes}
        )
    for span in evidence.spans:
        if span.name == names.SPAN_SCHEDULER_PLACE:
            facts.update(
                {
                    short: span.attributes[n]
                    for n, short in _PLACE_FACTS.items()
                    if n in span.attributes
                }
            )
            facts["scores"] = _scores(span)
    facts["preemptions"] = sum(step.phase == PREEMPTED for step in evidence.steps)
    return facts


def _scores(place: StoredSpan) -> list[str]:
    """What placement thought of each worker, the winner first; empty if it did not tell."""
    told = [
        place.attributes.get(name)
        for name in (
            names.PLACEMENT_WORKERS,
            names.PLACEMENT_COSTS_S,
            names.PLACEMENT_MISSING_TOKENS,
        )
    ]
    lists = [value for value in told if isinstance(value, list)]
    if len(lists) != len(told):
        return []
    return [
        f"{worker}: {float(cost_s) * 1000:.1f} ms, {missing} tokens to compute"
        for worker, cost_s, missing in zip(*lists, strict=False)
    ]
