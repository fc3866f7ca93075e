import random

import pytest

from services.core.step_fit import StepTimeFit
from services.core.step_time import StepTimeModel, StepWork

TRUE = StepTimeModel(
    base_s=8e-3,
    prefill_s=1.2e-3,
    prefill_pair_s=2e-7,
    decode_s=9e-4,
    decode_pair_s=3e-6,
    max_batched_tokens=512,
)


def work(chance: random.Random, *, num_prefill: int, num_decodes: int) -> StepWork:
    return StepWork(
        num_prefill,
        num_prefill * chance.uniform(10, 400),
        num_decodes,
        round(num_decodes * chance.uniform(10, 900)),
    )


def mixed(seed: int, num_steps: int) -> list[StepWork]:
    chance = random.Random(seed)
    return [
        work(
            chance,
            num_prefill=chance.choice((0, 0, 64, 300, 512)),
            num_decodes=chance.randint(1, 32),
        )
        for _ in range(num_steps)
    ]


def test_the_model_behind_steps_is_found():
    fit = StepTimeFit()
    for step in mixed(1, 200):
        fit.add(step, TRUE.step_s(step))
    found = fit.model(512)
    for name in ("base_s", "prefill_s", "prefill_pair_s", "decode_s", "decode_pair_s"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.01)
    assert found.max_batched_tokens == 512


def test_noise_costs_little():
    chance, fit = random.Random(2), StepTimeFit()
    for step in mixed(3, 500):
        fit.add(step, TRUE.step_s(step) * chance.uniform(0.9, 1.1))
    found = fit.model(512)
    for step in mixed(4, 50):
        assert found.step_s(step) == pytest.approx(TRUE.step_s(step), rel=0.05)


def test_what_was_never_seen_is_taken_from_the_prior():
    chance, fit = random.Random(5), StepTimeFit(TRUE)
    for num_decodes in range(1, 33):
        step = work(chance, num_prefill=0, num_decodes=num_decodes)
        fit.add(step, 2 * TRUE.step_s(step))
    found = fit.model(512)
    assert found.prefill_s == TRUE.prefill_s
    assert found.decode_s == pytest.approx(2 * TRUE.decode_s, rel=0.01)


def test_one_kind_of_step_fits_itself_and_nothing_is_negative():
    fit, step = StepTimeFit(), StepWork(num_decodes=4, num_decode_pairs=400)
    for _ in range(10):
        fit.add(step, 0.05)
    found = fit.model(512)
    assert found.step_s(step) == pytest.approx(0.05, rel=1e-3)
    assert min(found.base_s, found.decode_s, found.decode_pair_s) >= 0


def test_a_term_that_would_be_negative_is_zero():
    fit = StepTimeFit()
    for num_decodes in range(1, 20):
        fit.add(StepWork(num_decodes=num_decodes), 0.1 - 0.001 * num_decodes)
    found = fit.model(512)
    assert found.decode_s == 0.0
    assert found.base_s == pytest.approx(0.09, rel=0.02)


def test_old_steps_fade():
    fit, steps = StepTimeFit(keep_share=0.95), mixed(6, 400)
    for idx, step in enumerate(steps):
        fit.add(step, TRUE.step_s(step) * (1 if idx < 200 else 3))
    assert fit.model(512).decode_s == pytest.approx(3 * TRUE.decode_s, rel=0.02)


def test_a_step_without_time_says_nothing():
    fit = StepTimeFit(TRUE)
    fit.add(StepWork(num_decodes=1), 0.0)
    assert fit.num_steps == 0
    assert fit.model(512) == TRUE
