from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.traces.span import SpanLink
from services.cli.traces.store import MAX_KEPT, SLOW_S, TraceStore
from tests.services.cli.traces.spans import OTHER_TRACE, TRACE, a_span

OpenStore = Callable[..., TraceStore]


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    opened: list[TraceStore] = []

    def open_one(**options: object) -> TraceStore:
        opened.append(TraceStore(tmp_path / "traces.sqlite", **options))  # pyright: ignore[reportArgumentType]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def test_spans_read_as_they_were_written(open_store: OpenStore):
    span = a_span(
        "root",
        is_error=True,
        attributes={"text": "ä", "number": 1, "ratio": 0.5, "flag": True, "list": ["a", "b"]},
        links=(SpanLink(OTHER_TRACE, "01"),),
    )
    open_store().add([span])
    assert open_store().spans_of(TRACE) == [span]


def test_an_export_that_is_repeated_changes_nothing(open_store: OpenStore):
    store = open_store()
    span = a_span("root", request_id="req-1", links=(SpanLink(OTHER_TRACE, "01"),))
    store.add([span])
    store.add([span])
    assert store.spans_of(TRACE) == [span]
    assert store.linked_to(OTHER_TRACE) == [span]


def test_a_trace_is_found_by_request_id_and_by_trace_id(open_store: OpenStore):
    store = open_store()
    store.add([a_span("root"), a_span("chat", "root", request_id="req-1")])
    assert store.find_trace("req-1") == TRACE
    assert store.find_trace(TRACE.upper()) == TRACE
    assert store.find_trace("req-2") is None


def test_the_latest_trace_is_that_of_the_request_that_began_last(open_store: OpenStore):
    store = open_store()
    assert store.latest_trace() is None
    store.add([a_span("new", trace_id=OTHER_TRACE, start_ms=5, request_id="req-2")])
    # An offer to the cache ends long after its request; that does not make the request newer.
    store.add([a_span("old", start_ms=1, request_id="req-1")])
    store.add([a_span("offer", "old", start_ms=9, request_id="req-1")])
    store.add([a_span("step", trace_id="c" * 32, start_ms=20)])
    assert store.latest_trace() == OTHER_TRACE


def test_linked_spans_are_those_of_other_traces(open_store: OpenStore):
    store = open_store()
    link = SpanLink(TRACE, "01")
    step = a_span("step", trace_id=OTHER_TRACE, links=(link, SpanLink(TRACE, "02")))
    store.add([a_span("root", links=(link,)), step])
    assert store.linked_to(TRACE) == [step]


def test_beyond_the_limit_the_oldest_spans_go_with_their_links_and_requests(open_store: OpenStore):
    store = open_store(max_spans=4)
    store.add([a_span("first", request_id="req-1", links=(SpanLink(OTHER_TRACE, "01"),))])
    store.add([a_span(f"s{idx}", trace_id=OTHER_TRACE) for idx in range(4)])
    assert store.spans_of(TRACE) == []
    assert store.find_trace("req-1") is None
    assert store.linked_to(OTHER_TRACE) == []
    assert len(store.spans_of(OTHER_TRACE)) == 4


def test_spans_of_more_than_a_day_ago_go(open_store: OpenStore):
    clock = FakeClock()
    store = open_store(clock=clock, max_age_s=10)
    store.add([a_span("old")])
    clock.now_s += 10.5
    store.add([a_span("young", trace_id=OTHER_TRACE)])
    store.prune()
    assert store.spans_of(TRACE) == []
    assert len(store.spans_of(OTHER_TRACE)) == 1


def test_pruning_when_all_is_old_leaves_nothing(open_store: OpenStore):
    clock = FakeClock()
    store = open_store(clock=clock, max_age_s=10)
    store.add([a_span("old")])
    clock.now_s += 11
    store.prune()
    assert store.spans_of(TRACE) == []


def test_a_store_tells_when_the_last_span_of_a_trace_came_in(open_store: OpenStore):
    clock = FakeClock()
    store = open_store(clock=clock)
    store.add([a_span("root")])
    clock.now_s += 2
    assert store.seconds_since_arrival(TRACE) == 2


def test_spans_of_a_name_are_found_by_when_they_were(open_store: OpenStore):
    store = open_store()
    store.add(
        [
            a_span("engine.step", trace_id=TRACE, start_ms=0, ms=10),
            a_span("engine.step", trace_id=OTHER_TRACE, start_ms=20, ms=10),
            a_span("cache.fetch", trace_id=OTHER_TRACE, start_ms=20, ms=10),
        ]
    )
    found = store.named_between("engine.step", 15 * 1_000_000, 25 * 1_000_000)
    assert [(span.name, span.trace_id) for span in found] == [("engine.step", OTHER_TRACE)]


def test_latencies_are_those_at_the_door_shortest_first(open_store: OpenStore):
    store = open_store()
    store.add(
        [
            a_span("POST", trace_id=OTHER_TRACE, ms=50, kind="server", request_id="slow"),
            a_span("POST", trace_id=TRACE, ms=10, kind="server", request_id="fast"),
            a_span("worker.request", trace_id=TRACE, ms=90, request_id="fast"),
        ]
    )
    assert store.latencies() == [(10_000_000, TRACE), (50_000_000, OTHER_TRACE)]


@pytest.mark.parametrize("fields", [{"is_error": True}, {"ms": round(SLOW_S * 1000)}])
def test_a_request_that_failed_or_was_slow_outlives_the_bounds_with_its_steps(
    open_store: OpenStore, fields: dict[str, Any]
):
    store = open_store(max_spans=2)
    door = a_span("door", request_id="req-1", kind="server", **fields)
    step = a_span("step", trace_id="c" * 32, links=(SpanLink(TRACE, "01"),))
    store.add([door, step])
    for idx in range(6):
        store.add([a_span(f"later-{idx}", trace_id=f"{idx:032x}", request_id=f"later-{idx}")])
    store.prune()
    assert store.find_trace("req-1") == TRACE
    assert store.linked_to(TRACE) == [step]
    assert store.find_trace("later-0") is None
    assert store.find_trace("later-5") is not None


def test_only_the_latest_of_the_slow_and_failed_are_kept(open_store: OpenStore):
    store = open_store(max_spans=1)
    for idx in range(MAX_KEPT + 5):
        store.add(
            [
                a_span(
                    "door",
                    trace_id=f"{idx:032x}",
                    request_id=f"req-{idx}",
                    start_ms=idx,
                    is_error=True,
                )
            ]
        )
    store.add([a_span("last")])
    store.prune()
    store.prune()
    assert store.find_trace("req-0") is None
    assert store.find_trace(f"req-{MAX_KEPT}") is not None
