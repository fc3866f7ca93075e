from dataclasses import replace

import pytest

from benchmarks.simulator.cluster import Cluster, ClusterShape
from benchmarks.simulator.report import Slo, summarise
from benchmarks.simulator.sequence import SimulatedSequence
from benchmarks.simulator.synthetic import SHAPES
from benchmarks.simulator.trace import TraceRequest, at_rate
from benchmarks.simulator.worker import SimulatedWorker, WorkerShape
from services.core.step_time import StepTimeModel, StepWork
from services.scheduler.policies.registry import POLICIES

MODEL = StepTimeModel(
    base_s=0.01,
    prefill_s=1e-4,
    prefill_pair_s=0.0,
    decode_s=1e-3,
    decode_pair_s=1e-6,
    max_batched_tokens=64,
)
WORKER = WorkerShape(MODEL, num_blocks=64, block_size=16, max_num_seqs=8, max_requests=16)


def trace(num_requests: int = 200, gap_s: float = 0.05) -> list[TraceRequest]:
    """Every prompt begins like the one of its group."""
    return [
        TraceRequest(
            arrival_s=idx * gap_s,
            num_prompt=50 + idx % 40,
            num_output=1 + idx % 30,
            hash_ids=(idx % 7 * 100, idx % 7 * 100 + 1, 10_000 + idx, 20_000 + idx, 30_000 + idx),
        )
        for idx in range(num_requests)
    ]


def sequence(request_idx: int, *, num_prompt: int, num_output: int) -> SimulatedSequence:
    return SimulatedSequence(
        request_idx,
        num_prompt=num_prompt,
        num_output=num_output,
        block_hashes=(),
        arrived_s=0.0,
        deadline_s=1e9,
    )


def drain(worker: SimulatedWorker) -> dict[int, float]:
    """When each sequence ended."""
    ended: dict[int, float] = {}
    while (now_s := worker.next_s) is not None:
        for seq in worker.advance(now_s):
            ended[seq.request_idx] = now_s
    return ended


def test_many_steps_at_once_take_as_long_as_one_by_one():
    worker = SimulatedWorker("w", WORKER)
    worker.submit(sequence(0, num_prompt=20, num_output=100), 0.0)
    expected_s = MODEL.step_s(StepWork(num_prefill_tokens=20))
    for position in range(20, 119):
        expected_s += MODEL.step_s(StepWork(num_decodes=1, num_decode_pairs=position))
    assert drain(worker)[0] == pytest.approx(expected_s)


def test_a_prompt_beside_decodes_is_paced_as_the_engine_paces_it():
    def seconds_to_prefill(itl_target_s: float) -> float:
        shape = replace(
            WORKER, model=replace(MODEL, max_batched_tokens=512), itl_target_s=itl_target_s
        )
        worker = SimulatedWorker("w", shape)
        worker.submit(sequence(0, num_prompt=16, num_output=100), 0.0)
        assert worker.next_s is not None
        worker.advance(began_s := worker.next_s)
        worker.submit(long := sequence(1, num_prompt=480, num_output=2), began_s)
        while long.first_token_s is None:
            assert worker.next_s is not None
            worker.advance(worker.next_s)
        return long.first_token_s - began_s

    # Without a target one step holds the whole prompt; with one it takes several.
    assert seconds_to_prefill(0.03) > seconds_to_prefill(0.0) + 2 * MODEL.base_s


def test_an_arrival_is_looked_at_after_the_step_under_way():
    worker = SimulatedWorker("w", WORKER)
    worker.submit(sequence(0, num_prompt=20, num_output=12), 0.0)
    prefill_s = MODEL.step_s(StepWork(num_prefill_tokens=20))
    worker.advance(prefill_s)
    first_s = MODEL.step_s(StepWork(num_decodes=1, num_decode_pairs=20))
    second_s = MODEL.step_s(StepWork(num_decodes=1, num_decode_pairs=21))
    worker.submit(sequence(1, num_prompt=20, num_output=1), prefill_s + first_s + second_s / 2)
    assert worker.next_s == pytest.approx(prefill_s + first_s + second_s)
    worker.advance(prefill_s + first_s + second_s)
    assert worker.load().num_running == 2


@pytest.mark.parametrize("policy", POLICIES)
def test_every_request_is_answered_and_the_books_are_right(policy: str):
    cluster = Cluster(ClusterShape((WORKER,) * 3, policy), trace())
    outcome = cluster.run()
    cluster.check_integrity()
    assert sorted(answer.request.arrival_s for answer in outcome.answered) == [
        request.arrival_s for request in trace()
    ]
    assert outcome.num_refused == outcome.num_expired == 0


def test_the_same_run_twice_gives_the_same_figures():
    shape = ClusterShape((WORKER,) * 3)
    first, second = (summarise(Cluster(shape, trace()).run(), Slo()) for _ in range(2))
    assert first == second


def test_what_the_queue_does_not_hold_is_refused():
    crowd = trace(100, gap_s=0.0)
    outcome = Cluster(ClusterShape((WORKER,), max_queued=10), crowd).run()
    assert outcome.num_refused > 0
    assert len(outcome.answered) + outcome.num_refused == 100


def test_what_waits_past_its_deadline_is_given_up():
    crowd = trace(100, gap_s=0.0)
    outcome = Cluster(ClusterShape((WORKER,), deadline_s=0.5), crowd).run()
    assert outcome.num_expired > 0
    assert len(outcome.answered) + outcome.num_expired == 100


def test_a_request_larger_than_a_worker_is_refused():
    huge = [TraceRequest(0.0, 64 * 16, 1, ())]
    assert Cluster(ClusterShape((WORKER,)), huge).run().num_refused == 1


def test_a_cached_prefix_is_used_where_it_is():
    dear_prompts = replace(MODEL, prefill_s=1e-3, decode_s=1e-5)
    shape = ClusterShape((replace(WORKER, model=dear_prompts, num_blocks=200),) * 3)
    aware, blind = (
        summarise(Cluster(replace(shape, policy=policy), trace()).run(), Slo())
        for policy in ("tokenmill", "round-robin")
    )
    assert aware["hit_share"] > blind["hit_share"]


def test_several_schedulers_share_one_queue():
    outcome = Cluster(ClusterShape((WORKER,) * 4, num_schedulers=3), trace()).run()
    assert len(outcome.answered) == 200


def test_a_trace_is_moved_to_a_rate():
    faster = at_rate(trace(101), 50.0)
    assert faster[-1].arrival_s == pytest.approx(101 / 50)


@pytest.mark.parametrize("shape", SHAPES)
def test_synthetic_traces_share_prefixes_and_stay_the_same(shape: str):
    requests = SHAPES[shape]()
    assert requests == SHAPES[shape]()
    assert all(len(r.hash_ids) >= r.num_prompt // 512 for r in requests)
    first_ids = [request.hash_ids[:1] for request in requests]
    assert len(set(first_ids)) < len(requests) / 4


def test_twice_the_load_brings_no_fewer_good_answers():
    """What cannot begin in time is sorted out before it takes a worker's time."""
    shape = ClusterShape(shapes=(WORKER,) * 2, deadline_s=1.0)
    slo, requests = Slo(ttft_s=1.0), trace(600)

    def good_per_s(requests_per_s: float) -> float:
        outcome = Cluster(shape, at_rate(requests, requests_per_s)).run()
        assert len(outcome.answered) + outcome.num_refused + outcome.num_expired == len(requests)
        return summarise(outcome, slo)["goodput_rps"]

    loads = [good_per_s(requests_per_s) for requests_per_s in (20, 40, 60, 80, 160)]
    # By the last of these most of them come in vain.
    assert loads[-1] < 80
    assert loads[-1] >= 0.9 * max(loads)


def test_a_worker_stops_what_has_no_token_at_its_deadline():
    worker = SimulatedWorker("w", WORKER)
    late = sequence(0, num_prompt=500, num_output=2)
    late.deadline_s = 0.02
    worker.submit(late, 0.0)
    assert drain(worker) == {}
    assert worker.num_expired == 1
