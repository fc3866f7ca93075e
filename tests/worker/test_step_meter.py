import pytest

from services.core.step_time import StepTimeModel, StepWork
from worker.engine.port import StepReport
from worker.step_meter import MIN_STEPS, StepMeter

TRUE = StepTimeModel(0.004, 1e-4, 0.0, 5e-4, 0.0, max_batched_tokens=64)


def report(step_idx: int, *, num_prefill: int, num_decodes: int) -> StepReport:
    work = StepWork(num_prefill_tokens=num_prefill, num_decodes=num_decodes)
    return StepReport(
        step_idx,
        started_ns=0,
        ended_ns=round(TRUE.step_s(work) * 1e9),
        outputs=(),
        prefill_tokens_by_seq={"a": num_prefill} if num_prefill else {},
        decode_seq_ids=["b"] * num_decodes,
        work=work,
    )


def test_a_meter_finds_the_times_of_the_steps_that_it_saw():
    meter = StepMeter(max_batched_tokens=64)
    for idx in range(60):
        meter.on_step(report(idx, num_prefill=idx % 3 * 16, num_decodes=1 + idx % 5))
    model = meter.model()
    assert model is not None
    assert model.max_batched_tokens == 64
    assert model.prefill_s == pytest.approx(TRUE.prefill_s, rel=0.05)
    assert model.decode_s == pytest.approx(TRUE.decode_s, rel=0.05)
    assert model.base_s == pytest.approx(TRUE.base_s, rel=0.05)


def test_nothing_is_said_before_enough_was_seen():
    meter = StepMeter(max_batched_tokens=64)
    for idx in range(MIN_STEPS - 1):
        meter.on_step(report(idx, num_prefill=8, num_decodes=1))
    assert meter.model() is None


def test_nothing_is_said_of_prefill_that_was_never_seen():
    meter = StepMeter(max_batched_tokens=64)
    for idx in range(MIN_STEPS * 2):
        meter.on_step(report(idx, num_prefill=0, num_decodes=1))
    assert meter.model() is None
