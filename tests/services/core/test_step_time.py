import pytest

from services.core.step_time import StepTimeModel, StepWork

MODEL = StepTimeModel(
    base_s=1.0,
    prefill_s=0.1,
    prefill_pair_s=0.01,
    decode_s=0.2,
    decode_pair_s=0.02,
    max_batched_tokens=100,
)


def test_a_step_takes_the_sum_of_its_parts():
    work = StepWork(num_prefill_tokens=2, num_prefill_pairs=3, num_decodes=4, num_decode_pairs=5)
    assert MODEL.step_s(work) == pytest.approx(1 + 0.2 + 0.03 + 0.8 + 0.1)


def test_company_makes_a_prompt_token_slower():
    alone = MODEL.prefill_token_s(0, 0)
    assert alone == pytest.approx(0.1 + 1 / 100)
    assert MODEL.prefill_token_s(50, 1000) == pytest.approx(0.1 + (1 + 10 + 20) / 50)
