from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.request import RequestClass
from services.scheduler.fairness import FairnessRules
from services.scheduler.order import FairOrder, HeldRequest
from tests.services.scheduler.requests import CLASSES, NOW_MS, held, jain


def ready_ids(*entries: HeldRequest) -> list[str]:
    ordered = FairOrder().order(entries, now_unix_ms=NOW_MS, now_s=0.0)
    return [entry.request.request_id for entry in ordered.ready]


def of_tenant(tenant: str, idx: int, **more: Any) -> HeldRequest:
    return held(f"{tenant}{idx}", position=idx, tenant=tenant, **more)


def serve(
    order: FairOrder, waiting: list[HeldRequest], count: int, now_s: float = 0.0
) -> list[HeldRequest]:
    """Places the first request in order, count times."""
    waiting = list(waiting)
    served: list[HeldRequest] = []
    for _ in range(count):
        entry = order.order(waiting, now_unix_ms=NOW_MS, now_s=now_s).ready[0]
        order.placed(entry, entry.num_prompt_tokens, now_s)
        waiting.remove(entry)
        served.append(entry)
    return served


def test_earlier_arrivals_of_a_class_go_first():
    assert ready_ids(held("b", position=2), held("a", position=1)) == ["a", "b"]


def test_of_one_tenant_the_earliest_deadline_goes_first():
    late = held("late", position=1)
    soon = held("soon", position=2, deadline_unix_ms=NOW_MS + 1)
    assert ready_ids(late, soon) == ["soon", "late"]


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
    order = FairOrder()
    assert order.order([entry], now_unix_ms=NOW_MS, now_s=0.0).expired == (entry,)
    assert order.order([entry], now_unix_ms=NOW_MS - 1, now_s=0.0).ready == (entry,)


def test_tenants_take_turns_by_tokens():
    long = [of_tenant("long", idx, num_prompt_tokens=30) for idx in range(30)]
    short = [of_tenant("short", 100 + idx, num_prompt_tokens=10) for idx in range(30)]
    served = serve(FairOrder(), long + short, 32)
    assert Counter(entry.request.tenant for entry in served) == {"long": 8, "short": 24}


def test_one_call_orders_as_many_calls_would():
    entries = [
        of_tenant(tenant, idx, num_prompt_tokens=size)
        for tenant, size in (("a", 7), ("b", 20), ("c", 13))
        for idx in range(6)
    ]
    at_once = FairOrder().order(entries, now_unix_ms=NOW_MS, now_s=0.0).ready
    assert list(at_once) == serve(FairOrder(), entries, len(entries))


def test_output_tokens_count_against_their_tenant():
    order = FairOrder(FairnessRules(output_weight=2.0))
    order.produced("interactive", "a", 30, 0.0)
    served = serve(order, [of_tenant(tenant, idx) for tenant in "ab" for idx in range(8)], 6)
    assert [entry.request.tenant for entry in served] == ["b"] * 6


def test_service_is_forgotten():
    order = FairOrder(FairnessRules(half_life_s=10.0))
    order.produced("interactive", "a", 1000, 0.0)
    served = serve(order, [of_tenant(tenant, idx) for tenant in "ab" for idx in range(8)], 4, 500.0)
    assert Counter(entry.request.tenant for entry in served) == {"a": 2, "b": 2}


def test_standings_stay_right_over_years():
    order = FairOrder(FairnessRules(half_life_s=1.0))
    for second in range(0, 3_000, 100):
        order.produced("interactive", "a", 100, float(second))
        order.produced("interactive", "b", 50, float(second))
    entries = [of_tenant(tenant, idx) for tenant in "ab" for idx in range(8)]
    served = serve(order, entries, 5, 2_900.0)
    assert [entry.request.tenant for entry in served] == ["b"] * 5


def test_a_flood_that_came_first_does_not_hide_other_tenants():
    order = FairOrder()
    flood = [of_tenant("t0", idx) for idx in range(400)]
    # The flooder is alone for a while, then seven more come.
    for entry in serve(order, flood, 100):
        flood.remove(entry)
    others = [of_tenant(f"t{num}", 1_000 + idx) for num in range(1, 8) for idx in range(40)]
    counts = Counter(entry.request.tenant for entry in serve(order, flood + others, 240))
    assert jain([counts[f"t{num}"] for num in range(8)]) >= 0.99


def test_a_tenant_that_comes_late_does_not_take_all():
    order = FairOrder()
    early = [of_tenant("early", idx) for idx in range(200)]
    for entry in serve(order, early, 100):
        early.remove(entry)
    late = [of_tenant("late", 500 + idx) for idx in range(60)]
    counts = Counter(entry.request.tenant for entry in serve(order, early + late, 20))
    assert counts == {"early": 10, "late": 10}


@pytest.mark.parametrize("lowest", [RequestClass.STANDARD, RequestClass.BATCH])
def test_a_lower_class_gets_its_least_share(lowest: RequestClass):
    order = FairOrder(FairnessRules(min_share=0.05))
    urgent = [held(f"u{idx}", position=idx) for idx in range(400)]
    patient = [held(f"p{idx}", position=idx, request_class=lowest) for idx in range(40)]
    served = serve(order, urgent + patient, 210)
    assert sum(entry.request.request_class is lowest for entry in served) == 10


def test_without_urgent_work_a_lower_class_has_all():
    patient = [held(f"p{idx}", position=idx, request_class=RequestClass.BATCH) for idx in range(5)]
    assert serve(FairOrder(), patient, 5) == patient


entries = st.builds(
    of_tenant,
    st.sampled_from("abc"),
    st.integers(0, 20),
    attempt=st.integers(1, 3),
    request_class=st.sampled_from(CLASSES),
    num_prompt_tokens=st.integers(1, 50),
    deadline_unix_ms=st.integers(NOW_MS - 5, NOW_MS + 5),
)


@given(st.lists(entries))
def test_every_request_comes_out_once(requests: list[HeldRequest]):
    ordered = FairOrder().order(requests, now_unix_ms=NOW_MS, now_s=0.0)
    assert sorted(map(id, (*ordered.ready, *ordered.expired))) == sorted(map(id, requests))


@given(st.lists(entries, unique_by=lambda entry: entry.key))
def test_the_order_does_not_depend_on_the_order_of_pulling(requests: list[HeldRequest]):
    forward = FairOrder().order(requests, now_unix_ms=NOW_MS, now_s=0.0).ready
    backward = FairOrder().order(reversed(requests), now_unix_ms=NOW_MS, now_s=0.0).ready
    assert [entry.key for entry in forward] == [entry.key for entry in backward]
