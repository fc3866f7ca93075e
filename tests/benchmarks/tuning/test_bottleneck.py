from dataclasses import replace

from benchmarks.tuning.bottleneck import Bottleneck, Observation, diagnose, step_shares
from services.core.step_time import StepTimeModel

WEIGHTS_BOUND = Observation(
    seconds=10.0,
    output_tokens=1_000,
    prompt_tokens=0,
    num_running=1.0,
    num_waiting=0.0,
    num_places=32,
    full_share=0.0,
    kv_used_peak=0.1,
    context_tokens=100.0,
    cpu_s={"worker": 18.0, "gateway": 1.0},
    num_cpus=2,
    step_time=StepTimeModel(base_s=8e-3, prefill_s=1e-3, decode_s=1e-3, decode_pair_s=0.0),
)


def test_few_sequences_are_limited_by_reading_weights():
    found = diagnose(WEIGHTS_BOUND)
    assert found.kind is Bottleneck.MEMORY
    assert found.shares["weights"] == 0.8
    assert "80% of the workers' time" in found.why
    assert "1.8 of 2 cores" in found.why


def test_many_prompts_are_limited_by_compute():
    found = diagnose(replace(WEIGHTS_BOUND, output_tokens=100, prompt_tokens=8_000))
    assert found.kind is Bottleneck.COMPUTE
    assert "800 prompt tokens/s" in found.why


def test_many_sequences_are_limited_by_their_own_work():
    found = diagnose(replace(WEIGHTS_BOUND, output_tokens=6_000, num_running=20.0))
    assert found.kind is Bottleneck.COMPUTE
    assert "20.0 sequences" in found.why


def test_full_places_with_requests_behind_them_are_a_queue():
    found = diagnose(replace(WEIGHTS_BOUND, full_share=0.6, num_waiting=5.0, num_running=30.0))
    assert found.kind is Bottleneck.QUEUE
    assert "all 32 places" in found.why


def test_full_places_and_nobody_waiting_are_no_queue():
    assert diagnose(replace(WEIGHTS_BOUND, full_share=0.6)).kind is not Bottleneck.QUEUE


def test_a_full_pool_comes_before_all_else():
    found = diagnose(replace(WEIGHTS_BOUND, kv_used_peak=0.97, full_share=1.0, num_waiting=5.0))
    assert found.kind is Bottleneck.MEMORY
    assert "97% of the K/V blocks" in found.why


def test_a_worker_that_waits_while_cpus_are_free_is_limited_by_the_others():
    idle = replace(WEIGHTS_BOUND, output_tokens=200, free_cpus=1.0)
    found = diagnose(idle)
    assert found.kind is Bottleneck.IO
    assert "the gateway used most CPU, 0.10 cores" in found.why


def test_a_worker_that_waits_for_a_cpu_is_not_limited_by_the_others():
    crowded = replace(WEIGHTS_BOUND, output_tokens=200, foreign_cpus=1.5)
    found = diagnose(crowded)
    assert found.kind is Bottleneck.MEMORY
    assert "other programs on 1.5" in found.why


def test_shares_never_exceed_the_time_there_was():
    shares = step_shares(replace(WEIGHTS_BOUND, output_tokens=10_000))
    assert sum(shares.values()) == 1.0


def test_a_worker_that_has_not_measured_has_no_shares():
    assert not any(step_shares(replace(WEIGHTS_BOUND, step_time=None)).values())
