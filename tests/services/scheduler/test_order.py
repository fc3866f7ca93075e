from hypothesis import given
from hypothesis import strategies as st

from services.core.request import RequestClass
from services.scheduler.order import HeldRequest, order
from tests.services.scheduler.requests import CLASSES, NOW_MS, held


def ready_ids(*entries: HeldRequest) -> list[str]:
    return [entry.request.request_id for entry in order(entries, now_unix_ms=NOW_MS).ready]


def test_earlier_arrivals_of_a_class_go_first():
    assert ready_ids(held("b", position=2), held("a", position=1)) == ["a", "b"]


def test_a_more_urgent_class_goes_before_earlier_arrivals():
    batch = held("batch", request_class=RequestClass.BATCH, position=1)
    standard = held("standard", request_class=RequestClass.STANDARD, position=2)
    interactive = held("interactive", position=3)
    assert ready_ids(batch, standard, interactive) == ["interactive", "standard", "batch"]


def test_a_resumed_request_of_any_class_goes_before_all_new_work():
    resumed = held("resumed", attempt=2, request_class=RequestClass.BATCH, position=9)
    assert ready_ids(held("new", position=1), resumed) == ["resumed", "new"]


def test_a_request_expires_at_its_deadline():
    entry = held("late", deadline_unix_ms=NOW_MS)
    assert order([entry], now_unix_ms=NOW_MS).expired == (entry,)
    assert order([entry], now_unix_ms=NOW_MS - 1).ready == (entry,)


entries = st.builds(
    held,
    st.text("abcdef", min_size=1, max_size=3),
    attempt=st.integers(1, 3),
    request_class=st.sampled_from(CLASSES),
    position=st.integers(0, 20),
    deadline_unix_ms=st.integers(NOW_MS - 5, NOW_MS + 5),
)


@given(st.lists(entries))
def test_every_request_comes_out_once(requests: list[HeldRequest]):
    ordered = order(requests, now_unix_ms=NOW_MS)
    assert sorted(map(id, (*ordered.ready, *ordered.expired))) == sorted(map(id, requests))


@given(st.lists(entries, unique_by=lambda entry: (entry.key, entry.queue_position)))
def test_the_order_does_not_depend_on_the_order_of_pulling(requests: list[HeldRequest]):
    forward = order(requests, now_unix_ms=NOW_MS).ready
    backward = order(reversed(requests), now_unix_ms=NOW_MS).ready
    assert [(e.lane, e.queue_position, e.key) for e in forward] == [
        (e.lane, e.queue_position, e.key) for e in backward
    ]
