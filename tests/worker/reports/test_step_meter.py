from dataclasses import replace

import pytest

from services.core.step_time import StepTimeModel, StepWork
from worker.engine.port import StepReport
from worker.reports.step_meter import LONG_CONTEXT, MIN_LONG_STEPS, MIN_STEPS, StepMeter

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


def test_a_few_short_prompts_do_not_make_long_ones_dear():
    meter = StepMeter(max_batched_tokens=512)
    for idx, num_prefill in enumerate((36, 175, 175, *[0] * MIN_STEPS)):
        exact = report(idx, num_prefill=num_prefill, num_decodes=int(num_prefill == 0))
        noise = 1.05 if num_prefill == 175 else 1.0
        work = replace(exact.work, num_prefill_pairs=num_prefill**2 / 2)
        meter.on_step(replace(exact, ended_ns=round(exact.ended_ns * noise), work=work))
    model = meter.model()
    assert model is not None
    long = StepWork(num_prefill_tokens=512, num_prefill_pairs=512 * 2_000)
    assert model.step_s(long) == pytest.approx(TRUE.step_s(long), rel=0.15)


def test_attention_is_told_apart_once_long_contexts_were_seen():
    true = replace(TRUE, prefill_pair_s=1e-7)
    meter = StepMeter(max_batched_tokens=512)
    for idx in range(3 * MIN_LONG_STEPS):
        num_prefill = 128 + idx % 5
        context = 4 * LONG_CONTEXT if idx % 2 else LONG_CONTEXT // 8
        exact = report(idx, num_prefill=num_prefill, num_decodes=1 + idx % 3)
        work = replace(exact.work, num_prefill_pairs=num_prefill * context)
        meter.on_step(replace(exact, ended_ns=round(true.step_s(work) * 1e9), work=work))
    model = meter.model()
    assert model is not None
    assert model.prefill_pair_s == pytest.approx(true.prefill_pair_s, rel=0.05)


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
