from io import StringIO

from rich.console import Console

from services.cli.traces.render import render_tree, trace_as_json
from services.cli.traces.span import SpanLink
from services.cli.traces.tree import build_tree
from services.runtime import names
from tests.services.cli.traces.spans import OTHER_TRACE, TRACE, a_span


def text_of(tree: object) -> list[str]:
    console = Console(file=StringIO(), width=200, color_system=None)
    console.print(tree)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_tree_shows_name_service_start_duration_and_key_attributes():
    spans = [
        a_span("POST /v1/chat/completions", ms=1500),
        a_span(
            "chat m",
            "POST /v1/chat/completions",
            start_ms=2,
            ms=120,
            attributes={
                names.GEN_AI_USAGE_OUTPUT_TOKENS: 7,
                names.GEN_AI_RESPONSE_FINISH_REASONS: ["stop"],
                "of.no.interest": 1,
            },
        ),
    ]
    steps = [a_span("engine.step", trace_id=OTHER_TRACE, ms=4)] * 3
    assert text_of(render_tree(build_tree(TRACE, spans, steps))) == [
        f"trace {TRACE}  1.50 s",
        "├── POST /v1/chat/completions  gateway  +0.0 ms  1.50 s",
        "│   └── chat m  gateway  +2.0 ms  120.0 ms  output_tokens=7 finish=stop",
        "└── engine.step  gateway  3 linked spans, together 12.0 ms",
    ]


def test_orphans_are_shown_apart():
    lines = text_of(render_tree(build_tree(TRACE, [a_span("root"), a_span("lost", "gone")])))
    assert "1 without their parent" in lines[2]
    assert "lost" in lines[3]


def test_json_holds_every_field_of_every_span():
    step = a_span(
        "step", trace_id=OTHER_TRACE, links=(SpanLink(TRACE, "01", {"tokenmill.num_tokens": 3}),)
    )
    answer = trace_as_json(TRACE, [a_span("root", attributes={"a": 1})], [step])
    assert answer["trace_id"] == TRACE
    assert answer["spans"] == [
        {
            "name": "root",
            "service": "tokenmill-gateway",
            "kind": "internal",
            "span_id": b"root".hex(),
            "parent_span_id": "",
            "start_ns": 0,
            "end_ns": 10_000_000,
            "is_error": False,
            "attributes": {"a": 1},
            "links": [],
        }
    ]
    assert answer["linked_spans"][0]["trace_id"] == OTHER_TRACE
    assert answer["linked_spans"][0]["links"] == [
        {"trace_id": TRACE, "span_id": "01", "attributes": {"tokenmill.num_tokens": 3}}
    ]
