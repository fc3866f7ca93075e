from dataclasses import replace

import pytest

from services.cli.explain.evidence import Evidence, own_steps
from services.cli.explain.explanation import Explanation, explain, explanation_as_json
from services.cli.explain.render import render_explanation
from services.cli.terminal import open_console
from services.runtime import names
from tests.services.cli.explain.a_request import MS, a_request, a_step
from tests.services.cli.traces.spans import OTHER_TRACE, TRACE, a_span

BEFORE_FIRST_TOKEN = [
    "door",
    "tokenizing",
    "publish",
    "queue_wait",
    "placement",
    "submit",
    "kv_load",
    "admission",
    "prefill",
    "network",
    "detokenizing",
    "client_backpressure",
]


def explained(evidence: Evidence) -> Explanation:
    explanation = explain(TRACE, evidence)
    assert explanation is not None
    return explanation


@pytest.mark.parametrize("part", BEFORE_FIRST_TOKEN)
def test_a_delay_before_the_first_token_is_blamed_on_its_part(part: str):
    ttft = explained(a_request(**{part: 300})).ttft
    assert ttft is not None
    assert next(iter(ttft.parts_ms)) == part
    assert ttft.parts_ms[part] >= 300
    assert sum(ttft.parts_ms.values()) + ttft.unattributed_ms == pytest.approx(ttft.ms)


@pytest.mark.parametrize("part", ["decode", "network", "detokenizing", "client_backpressure"])
def test_a_slow_gap_is_blamed_on_its_part(part: str):
    gap = explained(a_request(late_piece=2, **{part: 300})).slow_gaps[0]
    assert gap.parts_ms[part] >= 250
    assert next(iter(gap.parts_ms)) == part
    assert sum(gap.parts_ms.values()) + gap.unattributed_ms == pytest.approx(gap.ms)


def test_the_parts_of_the_whole_sum_to_the_latency():
    latency = explained(a_request(queue_wait=40)).latency
    assert sum(latency.parts_ms.values()) + latency.unattributed_ms == pytest.approx(latency.ms)
    assert latency.unattributed_ms == 0


def with_steps(evidence: Evidence, *steps: object) -> Evidence:
    return replace(evidence, steps=own_steps(TRACE, steps), other_steps=steps)  # pyright: ignore[reportArgumentType]


def test_prefill_of_others_in_a_shared_step_is_interference():
    # 30 of the step's 40 ms belong to 30 tokens of another prompt; 10 tokens are its own.
    evidence = a_request(prefill=38)
    (first, *rest) = evidence.other_steps
    start = first.start_ns // MS
    shared = a_step(start, 40, "prefill", own=10, total=40, prefill=40)
    ttft = explained(with_steps(evidence, shared, *rest)).ttft
    assert ttft is not None
    assert ttft.parts_ms["prefill"] == pytest.approx(10)
    assert ttft.parts_ms["interference"] == pytest.approx(30)


def test_waiting_for_steps_of_others_is_interference_and_not_admission():
    evidence = a_request(admission=50)
    engine = next(s for s in evidence.spans if s.name == names.SPAN_ENGINE_PREFILL)
    other = a_span(
        names.SPAN_ENGINE_STEP,
        trace_id=OTHER_TRACE,
        start_ms=engine.start_ns // MS,
        ms=45,
        attributes={names.NUM_TOKENS: 9, names.NUM_PREFILL_TOKENS: 9},
    )
    ttft = explained(replace(evidence, other_steps=[other, *evidence.other_steps])).ttft
    assert ttft is not None
    assert ttft.parts_ms["interference"] == pytest.approx(45)
    assert ttft.parts_ms["admission"] == pytest.approx(7)


def test_computing_again_after_a_preemption_is_preemption():
    evidence = a_request()
    last = evidence.steps[-1]
    start = last.end_ns // MS
    steps = [
        *evidence.other_steps,
        a_step(start, 0, "preempted", own=0),
        a_step(start + 20, 30, "prefill", own=9, total=9, prefill=9),
        a_step(start + 50, 10, "decode"),
    ]
    latency = explained(
        replace(
            with_steps(evidence, *steps),
            spans=[
                replace(s, end_ns=s.end_ns + 60 * MS) if s.name != "publish" else s
                for s in evidence.spans
            ],
        )
    ).latency
    assert latency.parts_ms["preemption"] == pytest.approx(50)


def test_a_trace_without_the_gateways_answer_is_not_explained():
    evidence = a_request()
    spans = [s for s in evidence.spans if names.GEN_AI_REQUEST_STREAM not in s.attributes]
    assert explain(TRACE, replace(evidence, spans=spans)) is None


def test_a_request_without_a_token_has_no_ttft():
    evidence = a_request()
    spans = [
        replace(s, attributes={names.GEN_AI_REQUEST_STREAM: True}) if s.name == "chat" else s
        for s in evidence.spans
    ]
    explanation = explained(Evidence(spans))
    assert explanation.ttft is None
    assert explanation_as_json(explanation)["ttft_ms"] is None


def test_json_and_terminal_tell_the_same_request(capsys: pytest.CaptureFixture[str]):
    import sys

    explanation = explained(a_request(queue_wait=300))
    told = explanation_as_json(explanation)
    assert told["request_id"] == "req-1"
    open_console(sys.stdout).print(render_explanation(explanation))
    shown = capsys.readouterr().out
    assert "req-1" in shown
    assert "queue_wait" in shown
