from hypothesis import given
from hypothesis import strategies as st

from services.core.load import WorkerState
from services.scheduler.fleet.fleet import MAX_IDX_LAG, SEEN_AFTER_S, Fleet, num_free
from tests.services.scheduler.requests import heartbeat, load

TIMEOUT_S = 2.0


def fleet_of(*worker_ids: str, now_s: float = 0.0) -> Fleet:
    fleet = Fleet(TIMEOUT_S)
    for worker_id in worker_ids or ("w1",):
        fleet.hear(heartbeat(worker_id), now_s)
    return fleet


def free(fleet: Fleet, now_s: float) -> int:
    return num_free(fleet.candidates(now_s))


def test_a_worker_that_announced_itself_can_be_given_requests():
    assert [worker.worker_id for worker in fleet_of("w1", "w2").candidates(1.0)] == ["w1", "w2"]


def test_a_silent_worker_is_given_nothing_until_it_speaks_again():
    fleet = fleet_of()
    assert free(fleet, TIMEOUT_S + 0.1) == 0
    assert fleet.sweep(TIMEOUT_S + 0.1) == ["w1"]
    assert fleet.sweep(TIMEOUT_S + 0.2) == []
    assert fleet.hear(heartbeat(idx=2), 3.0)
    assert free(fleet, 3.0) == 8


def test_a_worker_that_drains_or_stalls_is_given_nothing():
    for state in (WorkerState.DRAINING, WorkerState.STALLED):
        fleet = fleet_of()
        fleet.hear(heartbeat(idx=2, state=state), 0.1)
        assert fleet.candidates(0.1) == []


def test_a_late_heartbeat_changes_nothing():
    fleet = fleet_of()
    fleet.hear(heartbeat(idx=5, load=load(num_running=3)), 0.1)
    fleet.hear(heartbeat(idx=4, load=load(num_running=7)), 0.2)
    assert free(fleet, 0.2) == 5


def test_a_worker_started_again_under_its_name_is_believed():
    fleet = fleet_of()
    fleet.hear(heartbeat(idx=MAX_IDX_LAG + 10, load=load(num_running=8)), 0.1)
    fleet.hear(heartbeat(idx=1), 0.2)
    assert free(fleet, 0.2) == 8


def test_a_submission_counts_before_the_worker_speaks_of_it():
    fleet = fleet_of()
    fleet.submit("w1", num_requests=3, num_prompt_tokens=70, now_s=0.1)
    (worker,) = fleet.candidates(0.1)
    assert worker.num_free == 5
    assert worker.num_prefill_tokens == 70


def test_a_heartbeat_just_after_a_submission_does_not_count_it_yet():
    fleet = fleet_of()
    fleet.submit("w1", num_requests=3, num_prompt_tokens=0, now_s=0.1)
    fleet.hear(heartbeat(idx=2), 0.1 + SEEN_AFTER_S / 2)
    assert free(fleet, 0.2) == 5


def test_a_heartbeat_well_after_a_submission_counts_it():
    fleet = fleet_of()
    fleet.submit("w1", num_requests=3, num_prompt_tokens=0, now_s=0.1)
    fleet.hear(heartbeat(idx=2, load=load(num_waiting=3)), 0.2 + SEEN_AFTER_S)
    assert free(fleet, 0.5) == 5


def test_the_answer_to_a_submission_replaces_the_load():
    fleet = fleet_of()
    ticket = fleet.submit("w1", num_requests=3, num_prompt_tokens=0, now_s=0.1)
    fleet.answer(ticket, load(num_running=1), refused=False)
    assert free(fleet, 0.1) == 7


def test_a_worker_that_refused_is_given_nothing_until_its_next_heartbeat():
    fleet = fleet_of()
    ticket = fleet.submit("w1", num_requests=1, num_prompt_tokens=0, now_s=0.1)
    fleet.answer(ticket, load(), refused=True)
    assert free(fleet, 0.1) == 0
    fleet.hear(heartbeat(idx=2), 0.2)
    assert free(fleet, 0.2) == 8


def test_a_worker_that_did_not_answer_is_given_nothing_until_its_next_heartbeat():
    fleet = fleet_of()
    ticket = fleet.submit("w1", num_requests=1, num_prompt_tokens=0, now_s=0.1)
    fleet.fail(ticket, is_suspect=True)
    assert free(fleet, 0.1) == 0
    fleet.hear(heartbeat(idx=2), 0.2)
    assert free(fleet, 0.2) == 8


def test_a_request_that_failed_by_itself_leaves_the_worker_in_service():
    fleet = fleet_of()
    ticket = fleet.submit("w1", num_requests=1, num_prompt_tokens=0, now_s=0.1)
    fleet.fail(ticket, is_suspect=False)
    assert free(fleet, 0.1) == 8


def test_a_worker_long_silent_is_forgotten():
    fleet = fleet_of()
    fleet.sweep(1_000.0)
    assert fleet.addresses() == set()


def test_an_answer_of_a_forgotten_worker_is_ignored():
    fleet = fleet_of()
    ticket = fleet.submit("w1", num_requests=1, num_prompt_tokens=0, now_s=0.1)
    fleet.fail(ticket, is_suspect=True)
    fleet.sweep(1_000.0)
    fleet.answer(ticket, load(), refused=False)
    assert fleet.candidates(1_000.0) == []


def test_schedulers_begin_with_different_workers_of_an_idle_fleet():
    first = set()
    for salt in "abcdefgh":
        fleet = Fleet(TIMEOUT_S, salt)
        for idx in range(4):
            fleet.hear(heartbeat(f"w{idx}"), 0.0)
        first.add(min(fleet.candidates(0.0), key=lambda worker: worker.placed_idx).worker_id)
    assert len(first) > 1


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("hear"), st.integers(1, 40)),
            st.tuples(st.just("submit"), st.integers(1, 3)),
            st.tuples(st.sampled_from(["answer", "refuse", "fail"]), st.integers(0, 5)),
        )
    )
)
def test_a_quiet_fleet_shows_the_last_word_of_each_worker(events: list[tuple[str, int]]):
    """Whatever happened: once all is answered and the worker speaks, its word is what counts."""
    fleet = fleet_of()
    now_s = 0.0
    tickets = []
    for kind, number in events:
        now_s += 0.01
        if kind == "hear":
            fleet.hear(heartbeat(idx=number), now_s)
        elif kind == "submit":
            tickets.append(
                fleet.submit("w1", num_requests=number, num_prompt_tokens=1, now_s=now_s)
            )
        elif tickets:
            ticket = tickets.pop(number % len(tickets))
            if kind == "fail":
                fleet.fail(ticket, is_suspect=True)
            else:
                fleet.answer(ticket, load(), refused=kind == "refuse")
    for ticket in tickets:
        fleet.fail(ticket, is_suspect=True)
    fleet.hear(heartbeat(idx=100, load=load(num_running=2)), now_s + 0.01)
    assert free(fleet, now_s + 0.01) == 6
