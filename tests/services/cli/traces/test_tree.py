import random

from services.cli.traces.span import SpanLink
from services.cli.traces.tree import SpanNode, build_tree
from tests.services.cli.traces.spans import OTHER_TRACE, TRACE, a_span


def names(nodes: tuple[SpanNode, ...]) -> list[object]:
    return [[node.span.name, *names(node.children)] for node in nodes]


def test_spans_in_any_order_make_the_same_tree_by_start():
    spans = [
        a_span("root"),
        a_span("late", "root", start_ms=5),
        a_span("early", "root", start_ms=1),
        a_span("leaf", "early", start_ms=2),
    ]
    random.Random(7).shuffle(spans)
    tree = build_tree(TRACE, spans)
    assert names(tree.roots) == [["root", ["early", ["leaf"]], ["late"]]]
    assert tree.is_whole


def test_a_span_whose_parent_is_missing_is_an_orphan_with_all_that_is_under_it():
    tree = build_tree(TRACE, [a_span("root"), a_span("lost", "gone"), a_span("leaf", "lost")])
    assert names(tree.roots) == [["root"]]
    assert names(tree.orphans) == [["lost", ["leaf"]]]
    assert not tree.is_whole


def test_a_trace_without_root_is_not_whole():
    assert not build_tree(TRACE, []).is_whole
    assert not build_tree(TRACE, [a_span("lost", "gone")]).is_whole


def test_spans_of_one_name_that_link_here_are_summed_up():
    steps = [
        a_span(f"step{idx}", trace_id=OTHER_TRACE, ms=3, links=(SpanLink(TRACE, "00"),))
        for idx in range(2)
    ]
    steps += [a_span("batch", trace_id=OTHER_TRACE, ms=1)]
    linked = build_tree(TRACE, [a_span("root")], steps + steps[:1]).linked
    assert [(work.name, work.num_spans, work.total_ns) for work in linked] == [
        ("batch", 1, 1_000_000),
        ("step0", 2, 6_000_000),
        ("step1", 1, 3_000_000),
    ]


def test_a_trace_lasts_from_its_first_start_to_its_last_end():
    tree = build_tree(
        TRACE, [a_span("root", start_ms=2, ms=3), a_span("child", "root", start_ms=4)]
    )
    assert (tree.start_ns, tree.end_ns) == (2_000_000, 14_000_000)
