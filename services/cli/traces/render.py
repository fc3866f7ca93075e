"""A trace tree for a terminal, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from rich.tree import Tree

from services.cli.traces.span import StoredSpan
from services.cli.traces.tree import SpanNode, TraceTree
from services.runtime import names

# What a reader asks first, in this order, under short names; all the rest is in --json.
_KEY_ATTRIBUTES = {
    names.HTTP_RESPONSE_STATUS_CODE: "status",
    names.ERROR_TYPE: "error",
    names.GEN_AI_USAGE_INPUT_TOKENS: "prompt_tokens",
    names.GEN_AI_USAGE_CACHED_TOKENS: "cached_tokens",
    names.GEN_AI_USAGE_OUTPUT_TOKENS: "output_tokens",
    names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: "ttft_s",
    names.GEN_AI_RESPONSE_FINISH_REASONS: "finish",
    names.ATTEMPT: "attempt",
    names.WORKER_ID: "worker",
    names.BATCH_SIZE: "batch",
    names.QUEUE_WAIT_MS: "queue_wait_ms",
    names.NUM_STEPS: "steps",
    names.NUM_TOKENS: "tokens",
    names.NUM_BLOCKS: "blocks",
    names.NUM_PREEMPTIONS: "preemptions",
    names.OUTCOME: "outcome",
}
# Every one of ours has it, and lines are short of room.
_SERVICE_PREFIX = "tokenmill-"
_PACKAGE_PREFIX = "tokenmill.v1."
_NS_PER_MS = 1e6


def render_tree(tree: TraceTree) -> Tree:
    """The tree: name, service, start after the trace's own, duration, key attributes."""
    total_ns = tree.end_ns - tree.start_ns
    top = Tree(Text.assemble(("trace ", "bold"), (tree.trace_id, "cyan"), f"  {_ms(total_ns)}"))
    for node in tree.roots:
        _add(top, node, tree.start_ns)
    if tree.orphans:
        lost = top.add(Text(f"{len(tree.orphans)} without their parent", style="yellow"))
        for node in tree.orphans:
            _add(lost, node, tree.start_ns)
    for work in tree.linked:
        noun = "spans" if work.num_spans > 1 else "span"
        top.add(
            Text.assemble(
                (work.name, "bold"),
                (f"  {_short(work.service)}", "green"),
                (f"  {work.num_spans} linked {noun}, together {_ms(work.total_ns)}", "dim"),
            )
        )
    return top


def trace_as_json(
    trace_id: str, spans: Sequence[StoredSpan], linked: Sequence[StoredSpan]
) -> dict[str, Any]:
    """The whole trace; `linked_spans` belong to other traces and link to this one."""
    return {
        "trace_id": trace_id,
        "spans": [_span_as_json(span) for span in spans],
        "linked_spans": [{"trace_id": span.trace_id, **_span_as_json(span)} for span in linked],
    }


def _add(parent: Tree, node: SpanNode, start_ns: int) -> None:
    branch = parent.add(_line(node.span, start_ns))
    for child in node.children:
        _add(branch, child, start_ns)


def _line(span: StoredSpan, start_ns: int) -> Text:
    line = Text.assemble(
        (span.name.removeprefix(_PACKAGE_PREFIX), "bold red" if span.is_error else "bold"),
        (f"  {_short(span.service)}", "green"),
        (f"  +{_ms(span.start_ns - start_ns)}", "dim"),
        (f"  {_ms(span.duration_ns)}", "cyan"),
        no_wrap=True,
        overflow="ellipsis",
    )
    facts = [
        f"{short}={_value(span.attributes[name])}"
        for name, short in _KEY_ATTRIBUTES.items()
        if name in span.attributes
    ]
    if facts:
        line.append("  " + " ".join(facts), style="dim")
    return line


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value)


def _short(service: str) -> str:
    return service.removeprefix(_SERVICE_PREFIX)


def _ms(duration_ns: int) -> str:
    ms = duration_ns / _NS_PER_MS
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.1f} ms"


def _span_as_json(span: StoredSpan) -> dict[str, Any]:
    return {
        "name": span.name,
        "service": span.service,
        "kind": span.kind,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "is_error": span.is_error,
        "attributes": dict(span.attributes),
        "links": [
            {
                "trace_id": link.trace_id,
                "span_id": link.span_id,
                "attributes": dict(link.attributes),
            }
            for link in span.links
        ],
    }
