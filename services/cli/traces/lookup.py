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
"""Who is asked to export does it at once, and again after EXPORT_AGAIN_S: that is all then."""

EXPORTED_S = 10.0
"""Processes export each 5 s on their own: what ended before that is here."""

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
        settles_at = _ask(store, wanted, asking)
        while True:
            trace_id = store.find_trace(wanted) if wanted else store.latest_trace()
            is_late = time.monotonic() >= deadline
            if trace_id is not None:
                spans = store.spans_of(trace_id)
                tree = build_tree(trace_id, spans)
                settled = (
                    tree.is_whole
                    and store.seconds_since_arrival(trace_id) >= SETTLE_S
                    and time.monotonic() >= settles_at
                )
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


def _ask(store: TraceStore, wanted: str | None, asking: Asking) -> float:
    """Has brought here what is held or on its way; when that is done, on the monotonic clock."""
    trace_id = None if wanted is None else store.find_trace(wanted)
    if wanted is None:
        asking.keep_latest()
    elif trace_id is None:
        asking.keep(wanted)
    elif store.seconds_since_end(trace_id) < EXPORTED_S:
        asking.export()
    else:
        return 0.0
    return time.monotonic() + SETTLE_S if asking.is_somebody else 0.0
