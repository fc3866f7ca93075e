"""What holds for every policy and every fleet."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.kv_events import KvEvent
from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState
from services.scheduler.fleet.fleet import Fleet
from services.scheduler.fleet.kv_index import KvIndex
from services.scheduler.order import HeldRequest
from services.scheduler.policies.registry import POLICIES, make_policy
from tests.services.scheduler.requests import held

TIMEOUT_S, NOW_S = 2.0, 100.0
BLOCK_SIZE = 16
HASHES = tuple(idx.to_bytes(16, "little") for idx in range(12))


@st.composite
def workers(draw: st.DrawFn) -> list[tuple[WorkerHeartbeat, float, int]]:
    """Heartbeats, when each was heard, and the blocks that each holds."""
    fleet: list[tuple[WorkerHeartbeat, float, int]] = []
    for idx in range(draw(st.integers(0, 6))):
        max_requests = draw(st.integers(1, 8))
        load = WorkerLoad(
            max_requests=max_requests,
            num_running=draw(st.integers(0, max_requests)),
            num_waiting=draw(st.integers(0, 2)),
            num_free_blocks=draw(st.integers(0, 50)),
            num_blocks=50,
            block_size=BLOCK_SIZE,
            num_pending_prefill_tokens=draw(st.integers(0, 100_000)),
            max_running=draw(st.integers(0, 8)),
        )
        state = draw(st.sampled_from(WorkerState))
        heartbeat = WorkerHeartbeat(f"w{idx}", f"w{idx}", "m", state, 1, load)
        heard_s = NOW_S - draw(st.sampled_from([0.0, 1.0, TIMEOUT_S + 0.1, 50.0]))
        fleet.append((heartbeat, heard_s, draw(st.integers(0, len(HASHES)))))
    return fleet


def request(num_blocks: int) -> HeldRequest:
    entry = held("r", num_prompt_tokens=num_blocks * BLOCK_SIZE + 1)
    return replace(entry, block_hashes=HASHES[:num_blocks])


def choices(
    name: str, heard: Sequence[tuple[WorkerHeartbeat, float, int]], num_blocks: Sequence[int]
) -> list[str | None]:
    """What a fresh policy chooses, one request after the other."""
    fleet, index = Fleet(TIMEOUT_S), KvIndex()
    for heartbeat, heard_s, num_held in heard:
        fleet.hear(heartbeat, heard_s)
        index.apply(KvEvent(heartbeat.worker_id, 1, 1, HASHES[:num_held]))
    policy = make_policy(name, index, seed=1)
    candidates = fleet.candidates(NOW_S)
    chosen: list[str | None] = []
    for placed_idx, of_request in enumerate(num_blocks, 1):
        placement = policy.choose(request(of_request), candidates, NOW_S)
        if placement is None:
            chosen.append(None)
            continue
        assert placement.candidate.num_free > 0
        assert 1 <= placement.num_missing_tokens <= of_request * BLOCK_SIZE + 1
        placement.candidate.take(placement.num_missing_tokens, placed_idx)
        chosen.append(placement.candidate.worker_id)
    return chosen


prompts = st.lists(st.integers(0, len(HASHES)), min_size=1, max_size=12)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=60, deadline=None)
@given(heard=workers(), num_blocks=prompts)
def test_only_ready_fresh_workers_with_room_are_chosen(
    name: str, heard: list[tuple[WorkerHeartbeat, float, int]], num_blocks: list[int]
):
    room = {
        heartbeat.worker_id: heartbeat.load.num_free_requests
        for heartbeat, heard_s, _ in heard
        if heartbeat.state is WorkerState.READY and NOW_S - heard_s <= TIMEOUT_S
    }
    chosen = choices(name, heard, num_blocks)
    for worker_id in chosen:
        if worker_id is not None:
            room[worker_id] -= 1
    assert all(left >= 0 for left in room.values())
    # Nobody is held back while there is room.
    assert chosen.count(None) == 0 or sum(room.values()) == 0


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=30, deadline=None)
@given(heard=workers(), num_blocks=prompts)
def test_the_same_fleet_and_requests_give_the_same_choices(
    name: str, heard: list[tuple[WorkerHeartbeat, float, int]], num_blocks: list[int]
):
    assert choices(name, heard, num_blocks) == choices(name, heard, num_blocks)


@settings(max_examples=60, deadline=None)
@given(num_held=st.integers(0, len(HASHES)), num_prompt=st.integers(0, len(HASHES)))
def test_locality_never_fills_a_worker_while_others_have_nothing_to_do(
    num_held: int, num_prompt: int
):
    load = WorkerLoad(64, 0, 0, 10_000, 10_000, BLOCK_SIZE, 0, max_running=8)
    heard = [
        (WorkerHeartbeat(f"w{idx}", "", "m", WorkerState.READY, 1, load), NOW_S, 0)
        for idx in range(3)
    ]
    heard[0] = (*heard[0][:2], num_held)
    chosen = choices("tokenmill", heard, [num_prompt] * 24)
    assert chosen.count("w0") <= 8
