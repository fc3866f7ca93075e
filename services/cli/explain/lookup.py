"""From the trace store to explanations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.cli.explain.evidence import Evidence, answer_span, own_steps, stream_of
from services.cli.explain.explanation import Explanation, explain
from services.cli.failure import CommandFailed
from services.cli.traces.asking import Asking
from services.cli.traces.lookup import FoundTrace, find_trace
from services.cli.traces.span import StoredSpan
from services.cli.traces.store import TraceStore
from services.core.percentile import percentile
from services.runtime import names

_INSTANCE = "service.instance.id"


def explain_request(traces_file: Path, wanted: str | None, asking: Asking) -> Explanation:
    """Explains a request, or the latest one.

    Args:
        traces_file: of the store.
        wanted: request id or trace id; None: the latest request.
        asking: whom to ask for what is not kept.

    Raises:
        CommandFailed: nothing of it is kept, or too little.
    """
    found = find_trace(traces_file, wanted, asking=asking)
    return _explain(traces_file, found)


def explain_slowest(traces_file: Path, num_requests: int, asking: Asking) -> list[Explanation]:
    """Explains the slowest requests that are kept or held, slowest first."""
    latencies = _latencies(traces_file, asking)
    slowest = [trace_id for _, trace_id in reversed(latencies)][:num_requests]
    asking.keep_traces(slowest)
    return [_explain_trace(traces_file, trace_id) for trace_id in slowest]


def explain_percentile(traces_file: Path, share: float, asking: Asking) -> Explanation:
    """Explains the request whose latency is a percentile of all that are kept or held.

    Args:
        traces_file: of the store.
        share: in (0, 1].
        asking: whom to ask for what is held.
    """
    latencies = _latencies(traces_file, asking)
    wanted_ns = percentile([ns for ns, _ in latencies], share)
    trace_id = next(id_ for ns, id_ in latencies if ns == wanted_ns)
    asking.keep_traces([trace_id])
    return _explain_trace(traces_file, trace_id)


def _explain_trace(traces_file: Path, trace_id: str) -> Explanation:
    return _explain(traces_file, find_trace(traces_file, trace_id))


def _explain(traces_file: Path, found: FoundTrace) -> Explanation:
    steps = own_steps(found.tree.trace_id, found.linked)
    evidence = Evidence(
        spans=found.spans,
        steps=steps,
        other_steps=_steps_around(traces_file, found.spans),
        stream=stream_of(answer_span(found.spans)),
    )
    explanation = explain(found.tree.trace_id, evidence)
    if explanation is None:
        raise CommandFailed(f"trace {found.tree.trace_id} holds no answered request to explain")
    return explanation


def _steps_around(traces_file: Path, spans: Sequence[StoredSpan]) -> list[StoredSpan]:
    held = [span for span in spans if span.name == names.SPAN_WORKER_REQUEST]
    if not held:
        return []
    workers = {str(span.attributes.get(_INSTANCE)) for span in held}
    store = TraceStore(traces_file)
    try:
        steps = store.named_between(
            names.SPAN_ENGINE_STEP,
            min(span.start_ns for span in held),
            max(span.end_ns for span in held),
        )
    finally:
        store.close()
    return [step for step in steps if str(step.attributes.get(_INSTANCE)) in workers]


def _latencies(traces_file: Path, asking: Asking) -> list[tuple[int, str]]:
    if not traces_file.is_file():
        raise CommandFailed(f"no traces are kept in {traces_file.parent}")
    held = asking.latencies()
    store = TraceStore(traces_file)
    try:
        latencies = {*store.latencies(), *held}
    finally:
        store.close()
    if not latencies:
        raise CommandFailed("no request was traced yet")
    return sorted(latencies)
