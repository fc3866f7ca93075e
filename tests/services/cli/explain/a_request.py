"""A request's spans as the cluster records them, with a delay where a test wants one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from services.cli.explain.evidence import Evidence, answer_span, own_steps, stream_of
from services.cli.traces.span import SpanLink, StoredSpan
from services.runtime import names
from tests.services.cli.traces.spans import OTHER_TRACE, TRACE, a_span

MS = 1_000_000


@dataclass
class Clock:
    """Milliseconds since the request came; each stage takes 2 ms and its delay."""

    delays: dict[str, int] = field(default_factory=dict)
    now: int = 0

    def spend(self, stage: str) -> tuple[int, int]:
        """Start and duration of a stage that begins now."""
        start, ms = self.now, 2 + self.delays.get(stage, 0)
        self.now += ms
        return start, ms


def a_step(
    start_ms: int, ms: int, phase: str, *, own: int = 1, total: int = 1, prefill: int = 0
) -> StoredSpan:
    """A step of the engine with this request in it."""
    return a_span(
        names.SPAN_ENGINE_STEP,
        trace_id=OTHER_TRACE,
        start_ms=start_ms,
        ms=ms,
        attributes={names.NUM_TOKENS: total, names.NUM_PREFILL_TOKENS: prefill},
        links=(SpanLink(TRACE, "", {names.STEP_PHASE: phase, names.NUM_TOKENS: own}),),
    )


def a_request(*, late_piece: int = 0, **delays: int) -> Evidence:
    """A request with one prefill step and three decode steps.

    Args:
        late_piece: which of the four pieces meets the delays on the way to the client.
        delays: in ms, by stage.
    """
    clock = Clock(delays)
    spans: list[StoredSpan] = []

    def add(name: str, stage: str, kind: str = "internal", **attributes: object) -> StoredSpan:
        start, ms = clock.spend(stage)
        spans.append(a_span(name, start_ms=start, ms=ms, kind=kind, attributes=attributes))
        return spans[-1]

    clock.spend("door")
    add("TokenizerService/Tokenize", "tokenizing", "client")
    add(f"publish {names.REQUESTS_TEMPLATE}", "publish", "producer")
    clock.spend("queue_wait")
    decided, _ = clock.spend("placement")
    add(names.SPAN_SCHEDULER_PLACE, "submit", **{names.PLACEMENT_STARTED_NS: decided * MS})
    worker_from = clock.now
    add(names.SPAN_CACHE_FETCH, "kv_load")
    engine_from = clock.now
    clock.spend("admission")
    steps = [a_step(*clock.spend("prefill"), "prefill", own=8, total=8, prefill=8)]
    prefill_end = clock.now
    pieces: list[tuple[int, int, int]] = []

    def deliver(at: int) -> None:
        late = delays if len(pieces) == late_piece else {}
        before = pieces[-1] if pieces else (0, 0, 0)
        arrived = max(at, before[0]) + 1 + late.get("network", 0)
        ready = max(arrived, before[2]) + 1 + late.get("detokenizing", 0)
        pieces.append((arrived, ready, ready + 1 + late.get("client_backpressure", 0)))

    deliver(prefill_end)
    for number in range(3):
        stage = "decode" if number == 1 else "other_decode"
        steps.append(a_step(*clock.spend(stage), "decode"))
        deliver(clock.now)
    spans += [
        a_span(names.SPAN_ENGINE_PREFILL, start_ms=engine_from, ms=prefill_end - engine_from),
        a_span(names.SPAN_ENGINE_DECODE, start_ms=prefill_end, ms=clock.now - prefill_end),
        a_span(names.SPAN_WORKER_REQUEST, start_ms=worker_from, ms=clock.now - worker_from),
    ]
    gaps = [
        stamp * MS for before, piece in itertools.pairwise(pieces) for stamp in (before[2], *piece)
    ]
    attributes = {
        names.GEN_AI_REQUEST_STREAM: True,
        names.STREAM_FIRST_NS: [stamp * MS for stamp in pieces[0]],
        names.STREAM_LAST_NS: [stamp * MS for stamp in pieces[-1]],
        names.STREAM_SLOW_GAPS_NS: gaps,
    }
    total = pieces[-1][2] + 1
    spans.append(a_span("POST", ms=total, kind="server", request_id="req-1"))
    spans.append(a_span("chat", "POST", start_ms=1, ms=total - 2, attributes=attributes))
    return Evidence(spans, own_steps(TRACE, steps), steps, stream_of(answer_span(spans)))
