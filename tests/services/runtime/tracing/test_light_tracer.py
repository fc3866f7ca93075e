"""Spans of our own tracer: as the SDK's, seen through the API."""

from __future__ import annotations

from contextlib import suppress

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)

from services.runtime.tracing.light_tracer import LightTracer
from services.runtime.tracing.span_record import SpanRecord
from tests.services.runtime.spans import context


class Taken:
    """A tracer and what it made."""

    def __init__(self, sampler: Sampler = ALWAYS_OFF) -> None:
        self.spans: list[SpanRecord] = []
        self.tracer = LightTracer(sampler, self.spans.append)


def test_what_a_sampler_leaves_out_is_recorded_too():
    for sampler, is_sampled in ((ALWAYS_OFF, False), (ALWAYS_ON, True)):
        taken = Taken(sampler)
        taken.tracer.start_span("work").end()
        [span] = taken.spans
        assert span.is_sampled is is_sampled
        assert span.context.is_valid
        assert span.parent is None


def test_a_child_is_of_its_parents_trace_and_goes_as_its_parent_goes():
    taken = Taken(ALWAYS_ON)
    parent = taken.tracer.start_span("parent")
    taken.tracer.start_span("child", set_span_in_context(parent, Context())).end()
    [child] = taken.spans
    assert child.parent == parent.get_span_context()
    assert child.trace_id == parent.get_span_context().trace_id
    assert child.is_sampled


@pytest.mark.parametrize("is_sampled", [True, False])
def test_the_sampler_is_asked_about_what_comes_from_elsewhere(is_sampled: bool):
    taken = Taken(ParentBased(ALWAYS_ON))
    remote = NonRecordingSpan(context(5, is_sampled=is_sampled))
    taken.tracer.start_span("call", set_span_in_context(remote, Context())).end()
    [span] = taken.spans
    assert (span.trace_id, span.is_sampled) == (5, is_sampled)
    assert not span.context.is_remote
    assert not span.context.trace_flags.random_trace_id


def test_a_finished_span_holds_what_was_set_until_its_end_and_is_handed_over_once():
    taken = Taken()
    link = Link(context(9))
    span = taken.tracer.start_span(
        "work", Context(), SpanKind.SERVER, {"a": 1}, [link], start_time=10
    )
    span.set_attribute("b", "two")
    span.set_attributes({"a": 3})
    span.set_status(StatusCode.ERROR)
    assert span.is_recording()
    span.end(20)
    span.end(30)
    span.set_attribute("late", 1)
    assert not span.is_recording()
    [record] = taken.spans
    assert (record.name, record.kind) == ("work", SpanKind.SERVER)
    assert (record.start_ns, record.end_ns) == (10, 20)
    assert record.attributes == {"a": 3, "b": "two"}
    assert record.links == (link,)
    assert record.status.status_code is StatusCode.ERROR


def test_a_current_span_that_an_exception_leaves_says_so():
    taken = Taken()
    with suppress(KeyError), taken.tracer.start_as_current_span("work") as span:
        assert get_current_span() is span
        raise KeyError
    [record] = taken.spans
    assert record.attributes == {"error.type": "KeyError"}
    assert record.status.status_code is StatusCode.ERROR


def test_given_attributes_are_not_changed_by_what_is_set_later():
    taken = Taken()
    given = {"a": 1}
    taken.tracer.start_span("work", attributes=given).set_attribute("a", 2)
    assert given == {"a": 1}
