from __future__ import annotations

import pytest

from services.core.step_time import StepTimeModel, StepWork
from worker.engine.prefill_pace import PrefillPace
from worker.engine.step_times import StepTimes

MODEL = StepTimeModel(base_s=0.005, prefill_s=0.0005, prefill_pair_s=0.0, decode_s=0.001)


def _learned() -> StepTimes:
    times = StepTimes()
    for i in range(64):
        work = StepWork(num_prefill_tokens=i % 5 * 16, num_decodes=i % 3)
        times.add(work, MODEL.step_s(work))
    return times


def _pace(times: StepTimes, itl_target_s: float) -> PrefillPace:
    return PrefillPace(times, itl_target_s=itl_target_s, max_tokens=512, min_tokens=32)


def test_a_step_with_as_much_prefill_takes_as_long_as_the_target():
    decodes = StepWork(num_decodes=4)
    num_tokens = _pace(_learned(), 0.05).max_prefill_tokens(decodes)
    step_s = MODEL.step_s(StepWork(num_prefill_tokens=num_tokens, num_decodes=4))
    assert step_s == pytest.approx(0.05, rel=0.05)


def test_where_decoding_alone_takes_the_target_prefill_takes_as_long_again():
    decodes = StepWork(num_decodes=60)
    num_tokens = _pace(_learned(), 0.05).max_prefill_tokens(decodes)
    step_s = MODEL.step_s(StepWork(num_prefill_tokens=num_tokens, num_decodes=60))
    assert step_s == pytest.approx(2 * MODEL.step_s(decodes), rel=0.05)


def test_prefill_always_advances():
    assert _pace(_learned(), 0.006).max_prefill_tokens(StepWork(num_decodes=1)) == 32


@pytest.mark.parametrize(("times", "itl_target_s"), [(StepTimes(), 0.05), (_learned(), 0.0)])
def test_without_knowledge_or_target_there_is_no_limit(times: StepTimes, itl_target_s: float):
    assert _pace(times, itl_target_s).max_prefill_tokens(StepWork(num_decodes=1)) == 512


def test_a_machine_that_others_slow_down_is_believed_after_a_few_steps():
    times = _learned()
    decodes, slower = StepWork(num_decodes=4), 2.5
    for _ in range(5):
        mixed = StepWork(num_prefill_tokens=48, num_decodes=4)
        times.add(mixed, slower * MODEL.step_s(mixed))
    num_tokens = _pace(times, 0.08).max_prefill_tokens(decodes)
    step_s = slower * MODEL.step_s(StepWork(num_prefill_tokens=num_tokens, num_decodes=4))
    assert step_s == pytest.approx(0.08, rel=0.05)


def test_one_step_without_its_cpu_is_no_news():
    times = _learned()
    before = _pace(times, 0.05).max_prefill_tokens(StepWork(num_decodes=4))
    times.add(StepWork(num_decodes=4), 1.0)
    after = _pace(times, 0.05).max_prefill_tokens(StepWork(num_decodes=4))
    assert after == pytest.approx(before, rel=0.05)
