from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.placement import FULL_PREFILL_TOKENS, Candidate, least_loaded


def candidate(
    worker_id: str = "w",
    *,
    max_requests: int = 8,
    num_requests: int = 0,
    num_prefill_tokens: int = 0,
    placed_idx: int = 0,
) -> Candidate:
    return Candidate(worker_id, max_requests, num_requests, num_prefill_tokens, placed_idx)


def test_nobody_is_chosen_when_all_are_full():
    assert least_loaded([candidate(max_requests=2, num_requests=2)]) is None


def test_load_counts_relative_to_capacity():
    small = candidate("small", max_requests=4, num_requests=2)
    large = candidate("large", max_requests=32, num_requests=8)
    assert least_loaded([small, large]) is large


def test_waiting_prefill_counts_as_load():
    long_prompt = candidate("a", num_requests=1, num_prefill_tokens=FULL_PREFILL_TOKENS)
    short_prompts = candidate("b", num_requests=3)
    assert least_loaded([long_prompt, short_prompts]) is short_prompts


def test_equals_go_to_the_one_that_waited_longest_for_work():
    lately = candidate("a", placed_idx=7)
    long_ago = candidate("b", placed_idx=3)
    assert least_loaded([lately, long_ago]) is long_ago


def test_short_requests_on_an_idle_fleet_go_round_all_workers():
    fleet = [candidate(f"w{idx}") for idx in range(4)]
    chosen = Counter()
    for placed_idx in range(1, 41):
        best = least_loaded(fleet)
        assert best is not None
        best.placed_idx = placed_idx  # done before the next one comes: load stays zero
        chosen[best.worker_id] += 1
    assert set(chosen.values()) == {10}


candidates = st.builds(
    Candidate,
    st.text("abc", min_size=1, max_size=2),
    st.integers(0, 8),
    st.integers(0, 9),
    st.integers(0, 20_000),
    st.integers(-5, 5),
)


@given(st.lists(candidates))
def test_the_chosen_worker_has_room_and_nobody_with_room_is_less_loaded(fleet: list[Candidate]):
    chosen = least_loaded(fleet)
    with_room = [worker for worker in fleet if worker.num_free > 0]
    if chosen is None:
        assert not with_room
    else:
        assert chosen.num_free > 0
        assert chosen.load == min(worker.load for worker in with_room)
