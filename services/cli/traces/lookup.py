"""Finds a trace in the store, and waits a moment for spans that are still on their way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from services.cli.failure import CommandFailed
from services.cli.traces.asking import NOBODY, Asking
from services.cli.traces.span import StoredSpan
from services.cli.traces.store import TraceStore
from services.cli.traces.tree import TraceTree, build_tree

MAX_WAIT_S = 3.0
SETTLE_S = 0.7
"""Every process exports each 0.3 s: after twice that nothing more is on its way."""

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class FoundTrace:
    """A trace as it was read."""

    tree: TraceTree
    spans: list[StoredSpan]
    linked: list[StoredSpan]


def find_trace(
    traces_file: Path,
    wanted: str | None,
    *,
    asking: Asking = NOBODY,
    max_wait_s: float = MAX_WAIT_S,
) -> FoundTrace:
    """Reads a trace once it is whole and settled, or as it is after max_wait_s.

    Args:
        traces_file: of the store.
        wanted: request id or trace id; None: the latest request.
        asking: whom to ask for what is not kept.
        max_wait_s: longest wait.

    Raises:
        CommandFailed: there is no such trace.
    """
    if not traces_file.is_file():
        raise CommandFailed(f"no traces are kept in {traces_file.parent}")
    store = TraceStore(traces_file)
    deadline = time.monotonic() + max_wait_s
    try:
        if wanted is None:
            asking.keep_latest()
        elif store.find_trace(wanted) is None:
            asking.keep(wanted)
        while True:
            trace_id = store.find_trace(wanted) if wanted else store.latest_trace()
            is_late = time.monotonic() >= deadline
            if trace_id is not None:
                spans = store.spans_of(trace_id)
                tree = build_tree(trace_id, spans)
                settled = tree.is_whole and store.seconds_since_arrival(trace_id) >= SETTLE_S
                if settled or is_late:
                    linked = store.linked_to(trace_id)
                    return FoundTrace(build_tree(trace_id, spans, linked), spans, linked)
            elif is_late:
                raise CommandFailed(
                    f"no trace of {wanted} is kept" if wanted else "no request was traced yet"
                )
            time.sleep(_POLL_S)
    finally:
        store.close()
