from collections import Counter, deque

from services.core.request import RequestClass
from services.scheduler.order import FairOrder, HeldRequest
from services.scheduler.queue.pull_plan import MAX_LINGERING, Demand, LaneState, plan_pulls
from services.wire.subjects import lane_of
from tests.services.scheduler.requests import NOW_MS, held, jain

A, B, BATCH = "interactive.00a", "interactive.00b", "batch.00a"


def plan(*lanes: LaneState, room: int = 4, left: int = 100, **waiting: int) -> dict[str, int]:
    named = {name.replace("_", "."): count for name, count in waiting.items()}
    return {
        lane.name: count for lane, count in plan_pulls(lanes, Demand(room, left, Counter(named)))
    }


def test_one_lane_gets_all_the_room():
    assert plan(LaneState(A)) == {A: 4}


def test_lanes_share_the_room():
    assert plan(LaneState(A), LaneState(B)) == {A: 2, B: 2}


def test_what_a_lane_has_waiting_counts_against_its_share():
    assert plan(LaneState(A), LaneState(B), interactive_00a=2) == {B: 2}


def test_an_empty_lane_is_asked_for_one_and_keeps_no_room():
    empty = LaneState(A, has_more=False)
    assert plan(empty, LaneState(B)) == {A: 1, B: 4}


def test_pulls_at_empty_lanes_are_for_several_but_for_half_of_the_room_at_most():
    empty = [LaneState(lane, has_more=False) for lane in (A, B, BATCH)]
    assert plan(*empty, room=30) == {A: 5, B: 5, BATCH: 5}
    assert plan(*empty, room=1_000) == dict.fromkeys((A, B, BATCH), MAX_LINGERING)
    assert plan(*empty, room=2) == {A: 1, B: 1, BATCH: 1}


def test_a_pull_under_way_is_not_repeated_and_keeps_its_room():
    assert plan(LaneState(A, num_asked=3), LaneState(BATCH)) == {BATCH: 1}


def test_without_room_each_lane_still_has_one_held():
    assert plan(LaneState(A), LaneState(B), LaneState(BATCH), room=0, interactive_00a=1) == {
        B: 1,
        BATCH: 1,
    }


def test_urgent_bands_take_the_room_first():
    assert plan(LaneState(A), LaneState(BATCH), interactive_00a=3) == {A: 1, BATCH: 1}


def test_no_more_is_held_than_allowed():
    assert sum(plan(LaneState(A), LaneState(B), LaneState(BATCH), room=50, left=5).values()) <= 5


def test_twenty_thousand_waiting_requests_hide_nobody():
    """Eight tenants on a queue that is first in, first out inside a lane; one came long before."""
    lanes: dict[str, deque[HeldRequest]] = {}

    def push(tenant: str, count: int) -> None:
        lane = lane_of(RequestClass.INTERACTIVE, 1, tenant)
        for idx in range(count):
            entry = held(f"{tenant}-{idx}", tenant=tenant, position=idx)
            lanes.setdefault(lane, deque()).append(entry)

    order, waiting, served = FairOrder(), list[HeldRequest](), Counter[str]()
    push("t0", 20_000)
    for step in range(2_400):
        if step == 800:
            for num in range(1, 8):
                push(f"t{num}", 300)
            served.clear()
        states = [LaneState(lane) for lane, entries in lanes.items() if entries]
        counts = Counter(entry.lane for entry in waiting)
        # One place becomes free at each step.
        for state, num_wanted in plan_pulls(states, Demand(1 + 4, 256 - len(waiting), counts)):
            entries = lanes[state.name]
            waiting += [entries.popleft() for _ in range(min(num_wanted, len(entries)))]
        entry = order.order(waiting, now_unix_ms=NOW_MS, now_s=step / 10).ready[0]
        order.placed(entry, entry.num_prompt_tokens, step / 10)
        waiting.remove(entry)
        served[entry.request.tenant] += 1
    assert jain([served[f"t{num}"] for num in range(8)]) >= 0.99
