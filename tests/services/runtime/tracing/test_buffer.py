"""What is held of traces, what is given back, and when."""

from __future__ import annotations

from opentelemetry.trace import SpanKind

from services.runtime.tracing.buffer import TraceBuffer
from tests.services.runtime.spans import a_span, a_step, context


def test_a_trace_is_held_until_it_is_kept():
    buffer = TraceBuffer(max_spans=10)
    first, second = a_span(1, "first"), a_span(1, "second")
    assert buffer.add(first) == buffer.add(second) == []
    buffer.add(a_span(2))
    assert buffer.keep(1) == [first, second]
    assert buffer.keep(1) == []
    assert len(buffer) == 1


def test_what_comes_late_of_a_kept_trace_leaves_at_once():
    buffer = TraceBuffer(max_spans=10)
    buffer.keep(1)
    assert buffer.add(a_span(1)) == [a_span(1)]
    assert buffer.add(a_span(2)) == []


def test_a_kept_request_takes_the_steps_with_it_that_ran_meanwhile_whoever_they_were_for():
    buffer = TraceBuffer(max_spans=10)
    before = a_step(context(1), start_ns=0, end_ns=10)
    own, of_another = (
        a_step(context(1), start_ns=20, end_ns=30),
        a_step(context(2), start_ns=30, end_ns=40),
    )
    for step in (before, own, of_another):
        buffer.add(step)
    buffer.add(a_span(1, start_ns=15, end_ns=35))
    assert buffer.keep(1)[1:] == [own, of_another]
    assert len(buffer) == 1


def test_other_shared_work_is_kept_only_with_those_whom_it_links():
    buffer = TraceBuffer(max_spans=10)
    batches = [a_step(context(trace_id))._replace(name="scheduler.batch") for trace_id in (1, 2)]
    for batch in batches:
        buffer.add(batch)
    sampled = a_span(2, is_sampled=True)
    assert buffer.add(sampled) == [sampled, batches[1]]


def test_a_step_for_a_request_that_is_kept_already_leaves_at_once():
    buffer = TraceBuffer(max_spans=10)
    buffer.keep(1)
    for linked in (context(1), context(2, is_sampled=True)):
        assert len(buffer.add(a_step(linked))) == 1
    assert buffer.add(a_step(context(2))) == []


def test_the_trace_that_was_quiet_for_longest_goes_first():
    buffer = TraceBuffer(max_spans=3)
    for trace_id in (1, 2, 1, 3):
        buffer.add(a_span(trace_id))
    assert len(buffer.keep(1)) == 2
    assert buffer.keep(2) == []
    assert len(buffer.keep(3)) == 1


def test_steps_are_bounded_too():
    buffer = TraceBuffer(max_spans=3)
    for _ in range(5):
        buffer.add(a_step(context(1)))
    assert len(buffer) == 3


def test_a_request_is_found_by_its_id_and_calls_that_came_in_are_listed_latest_first():
    buffer = TraceBuffer(max_spans=10)
    for trace_id in (1, 2):
        door = a_span(trace_id, kind=SpanKind.SERVER, tokenmill__request__id=f"req-{trace_id}")
        buffer.add(door)
        buffer.add(a_span(trace_id))
    assert buffer.find("req-1") == 1
    assert buffer.find("req-3") is None
    assert [entry.trace_id for entry in buffer.entries()] == [2, 1]
