from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.batching import Batch, BatchLimits, form_batches, seconds_until_due
from services.scheduler.order import HeldRequest
from services.scheduler.placement import Candidate
from tests.services.scheduler.requests import NOW_MS, held

WAITING = BatchLimits(max_batch_size=4, max_prefill_tokens=100, max_wait_s=0.5)


def worker(worker_id: str = "w", *, num_free: int = 8) -> Candidate:
    return Candidate(worker_id, max_requests=8, num_requests=8 - num_free, num_prefill_tokens=0,
                     placed_idx=0)  # fmt: skip


def ids(batches: Sequence[Batch]) -> list[list[str]]:
    return [[entry.request.request_id for entry in batch.requests] for batch in batches]


def test_requests_for_one_worker_go_together_in_their_order():
    ready = [held("a"), held("b"), held("c")]
    assert ids(form_batches(ready, [worker()], BatchLimits()).batches) == [["a", "b", "c"]]


def test_a_full_batch_is_followed_by_another():
    ready = [held(name) for name in "abcde"]
    batches = form_batches(ready, [worker()], BatchLimits(max_batch_size=2)).batches
    assert ids(batches) == [["a", "b"], ["c", "d"], ["e"]]


def test_prompts_are_packed_under_the_prefill_budget():
    ready = [held(name, num_prompt_tokens=40) for name in "abc"]
    batches = form_batches(ready, [worker()], BatchLimits(max_prefill_tokens=100)).batches
    assert ids(batches) == [["a", "b"], ["c"]]


def test_a_prompt_above_the_budget_goes_alone():
    ready = [held("a"), held("long", num_prompt_tokens=500), held("b")]
    batches = form_batches(ready, [worker()], BatchLimits(max_prefill_tokens=100)).batches
    assert ids(batches) == [["a", "b"], ["long"]]


def test_short_prompts_fill_what_long_ones_leave_of_the_budget():
    sizes = {"a": 70, "b": 60, "c": 30, "d": 40, "e": 50}
    ready = [held(name, num_prompt_tokens=size) for name, size in sizes.items()]
    batches = form_batches(ready, [worker()], BatchLimits(max_prefill_tokens=100)).batches
    assert ids(batches) == [["a", "c"], ["b", "d"], ["e"]]
    assert [batch.is_followed for batch in batches] == [True, True, False]
    assert [batch.waste(BatchLimits(max_prefill_tokens=100)) for batch in batches] == [0, 0, 0.5]


def test_a_request_whose_submission_failed_goes_alone():
    ready = [held("a"), held("b", num_failures=1), held("c")]
    assert ids(form_batches(ready, [worker()], BatchLimits()).batches) == [["a", "c"], ["b"]]


def test_requests_are_spread_over_idle_workers():
    ready = [held(name) for name in "abcd"]
    batches = form_batches(ready, [worker("w1"), worker("w2")], BatchLimits()).batches
    assert {batch.worker_id: len(batch.requests) for batch in batches} == {"w1": 2, "w2": 2}


def test_what_finds_no_room_stays_held():
    ready = [held(name) for name in "abc"]
    assert ids(form_batches(ready, [worker(num_free=2)], BatchLimits()).batches) == [["a", "b"]]


def test_what_cannot_begin_before_its_deadline_costs_no_worker_anything():
    fleet = [worker()]
    own_ms = next(ms for ms in range(10_000) if not fleet[0].is_too_late(1_000, 1_000, ms / 1000))
    soon_ms = NOW_MS + own_ms
    ready = [
        held("late", num_prompt_tokens=1_000, deadline_unix_ms=soon_ms - 1),
        held("just", num_prompt_tokens=1_000, deadline_unix_ms=soon_ms + 1),
        # Behind the one before, this one is late too.
        held("behind", num_prompt_tokens=1_000, deadline_unix_ms=soon_ms + 1),
        held("resumed", attempt=2, num_prompt_tokens=1_000, deadline_unix_ms=soon_ms - 1),
    ]
    formed = form_batches(ready, fleet, BatchLimits(), now_unix_ms=NOW_MS)
    assert ids(formed.batches) == [["just", "resumed"]]
    assert [entry.request.request_id for entry in formed.too_late] == ["late", "behind"]


def test_behind_the_same_queue_the_longer_prompt_is_too_late_first():
    busy = worker()
    busy.take(50_000, 1)
    own_s = worker().step_time.prefill_s * 30_000
    assert not busy.is_too_late(1_000, 1_000, 5.0)
    assert busy.is_too_late(30_000, 30_000, 5.0)
    assert not worker().is_too_late(30_000, 30_000, 5.0)
    assert worker().is_too_late(30_000, 30_000, own_s)


def due(ready: list[HeldRequest], limits: BatchLimits, *, idle: bool = False, now_s: float = 0.1):
    return seconds_until_due(ready, limits, has_idle_worker=idle, now_s=now_s)


def test_nothing_is_held_back_by_default():
    assert due([held("a")], BatchLimits()) == 0


def test_the_oldest_request_waits_no_longer_than_max_wait():
    ready = [held("a", held_since_s=0.2), held("b", held_since_s=0.0)]
    assert due(ready, WAITING, now_s=0.1) == 0.4
    assert due(ready, WAITING, now_s=0.5) == 0


def test_nothing_is_held_back_while_a_worker_idles():
    assert due([held("a")], WAITING, idle=True) == 0


def test_requests_are_held_back_from_idle_workers_when_told_so():
    patient = BatchLimits(max_wait_s=0.5, waits_while_idle=True)
    assert due([held("a")], patient, idle=True) == 0.4


def test_a_full_batch_goes_at_once():
    assert due([held(name) for name in "abcd"], WAITING) == 0
    assert due([held("a", num_prompt_tokens=100)], WAITING) == 0


def test_a_resumed_request_is_not_held_back():
    assert due([held("a"), held("resumed", attempt=2)], WAITING) == 0


@given(
    st.lists(st.integers(1, 120), max_size=30),
    st.lists(st.integers(0, 8), max_size=4),
    st.integers(1, 6),
)
def test_batches_keep_order_limits_and_room(
    prompt_sizes: list[int], rooms: list[int], max_batch_size: int
):
    ready = [held(str(idx), num_prompt_tokens=size) for idx, size in enumerate(prompt_sizes)]
    fleet = [worker(f"w{idx}", num_free=room) for idx, room in enumerate(rooms)]
    limits = BatchLimits(max_batch_size=max_batch_size, max_prefill_tokens=100)
    batches = form_batches(ready, fleet, limits).batches

    num_placed = sum(len(batch.requests) for batch in batches)
    assert num_placed == min(len(ready), sum(rooms))
    placed = sorted(int(name) for batch in ids(batches) for name in batch)
    assert placed == list(range(num_placed))
    for idx, room in enumerate(rooms):
        mine = [batch for batch in batches if batch.worker_id == f"w{idx}"]
        assert sum(len(batch.requests) for batch in mine) <= room
    for batch in batches:
        assert len(batch.requests) <= max_batch_size
        assert batch.num_missing_tokens <= 100 or len(batch.requests) == 1
