import math
from dataclasses import replace

import pytest

from services.core.errors import InvalidRequest
from services.core.sampling import (
    MAX_CHOICES,
    MAX_SEED,
    MIN_SEED,
    SamplingParams,
    check_num_choices,
    check_sampling,
    seed_of_choice,
)

VALID = SamplingParams(max_tokens=8)


def test_defaults_are_valid():
    check_sampling(SamplingParams(), vocab_size=10)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("min_tokens", -1),
        ("min_tokens", 9),
        ("temperature", -1.0),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", math.inf),
        ("min_p", 1.1),
        ("seed", 2**63),
        ("stop", ("",)),
        ("stop", ("x",) * 17),
        ("stop_token_ids", (10,)),
        ("stop_token_ids", (1,) * 65),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.1),
        ("logit_bias", ((10, 1.0),)),
        ("logit_bias", ((1, 101.0),)),
        ("logit_bias", ((1, 1.0), (1, 2.0))),
        ("allowed_token_ids", (-1,)),
        ("banned_token_ids", (10,)),
        ("logprobs", 21),
        ("prompt_logprobs", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object):
    with pytest.raises(InvalidRequest) as caught:
        check_sampling(replace(VALID, **{field: value}), vocab_size=10)
    assert caught.value.field == field
    assert field in caught.value.message
    assert "allowed" in caught.value.message


def test_allowed_tokens_that_are_all_banned_are_refused():
    params = replace(VALID, allowed_token_ids=(1, 2), banned_token_ids=(2, 1, 3))
    with pytest.raises(InvalidRequest) as caught:
        check_sampling(params, vocab_size=10)
    assert caught.value.field == "allowed_token_ids"


@pytest.mark.parametrize("num_choices", [0, -1, MAX_CHOICES + 1])
def test_a_number_of_choices_out_of_range_is_refused(num_choices: int):
    with pytest.raises(InvalidRequest, match=f"n is {num_choices}"):
        check_num_choices(num_choices, field="n")


def test_each_choice_has_a_seed_of_its_own_and_the_first_the_callers():
    seeds = {seed_of_choice(seed, idx) for seed in (5, 6, MIN_SEED, MAX_SEED) for idx in range(4)}
    assert len(seeds) == 16
    assert all(MIN_SEED <= seed <= MAX_SEED for seed in seeds)
    assert seed_of_choice(5, 0) == 5
