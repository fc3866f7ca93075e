"""Spans to a tree. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from services.cli.traces.span import StoredSpan


@dataclass(frozen=True, slots=True)
class SpanNode:
    """A span and what happened under it, by start."""

    span: StoredSpan
    children: tuple[SpanNode, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkedWork:
    """Spans of one name that served this trace among others, such as engine steps.

    Attributes:
        total_ns: sum of their durations.
    """

    name: str
    service: str
    num_spans: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class TraceTree:
    """One trace.

    Attributes:
        roots: spans without parent; one in a healthy trace.
        orphans: spans whose parent is not here, with what is under them.
        start_ns: of the earliest span; 0 if there is none.
    """

    trace_id: str
    roots: tuple[SpanNode, ...]
    orphans: tuple[SpanNode, ...]
    linked: tuple[LinkedWork, ...]
    start_ns: int
    end_ns: int

    @property
    def is_whole(self) -> bool:
        """Whether it has its root and no orphans."""
        return bool(self.roots) and not self.orphans


def build_tree(
    trace_id: str, spans: Sequence[StoredSpan], linked: Sequence[StoredSpan] = ()
) -> TraceTree:
    """Builds the tree of a trace.

    Args:
        trace_id: whose.
        spans: of this trace, in any order.
        linked: of other traces, with links to this one.
    """
    known = {span.span_id for span in spans}
    by_parent: defaultdict[str, list[StoredSpan]] = defaultdict(list)
    for span in spans:
        by_parent[span.parent_span_id].append(span)
    orphans = [span for span in spans if span.parent_span_id and span.parent_span_id not in known]
    return TraceTree(
        trace_id=trace_id,
        roots=_nodes(by_parent[""], by_parent),
        orphans=_nodes(orphans, by_parent),
        linked=_sum_up(linked),
        start_ns=min((span.start_ns for span in spans), default=0),
        end_ns=max((span.end_ns for span in spans), default=0),
    )


def _nodes(
    spans: Sequence[StoredSpan], by_parent: defaultdict[str, list[StoredSpan]]
) -> tuple[SpanNode, ...]:
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
    return tuple(SpanNode(span, _nodes(by_parent[span.span_id], by_parent)) for span in ordered)


def _sum_up(spans: Sequence[StoredSpan]) -> tuple[LinkedWork, ...]:
    groups: defaultdict[tuple[str, str], list[StoredSpan]] = defaultdict(list)
    for span in spans:
        groups[span.name, span.service].append(span)
    return tuple(
        LinkedWork(name, service, len(group), sum(span.duration_ns for span in group))
        for (name, service), group in sorted(groups.items())
    )
