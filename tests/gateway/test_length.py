import pytest

from gateway.length import fit_answer
from services.core.errors import InvalidRequest, PromptTooLong
from services.core.sampling import SamplingParams


def fit(sampling: SamplingParams, num_prompt_tokens: int = 90, default: int | None = None):
    return fit_answer(
        sampling,
        num_prompt_tokens=num_prompt_tokens,
        prompt_field="prompt",
        max_model_len=100,
        default_max_tokens=default,
    )


def test_no_limit_means_the_rest_of_the_context():
    assert fit(SamplingParams()).max_tokens == 10


def test_the_default_is_cut_to_the_room():
    assert fit(SamplingParams(), default=4).max_tokens == 4
    assert fit(SamplingParams(), default=16).max_tokens == 10


def test_asking_for_more_than_the_room_is_refused_by_name_and_limit():
    with pytest.raises(InvalidRequest, match="max_tokens is 11; after this prompt at most 10"):
        fit(SamplingParams(max_tokens=11))


def test_min_tokens_beyond_the_room_is_refused():
    with pytest.raises(InvalidRequest) as caught:
        fit(SamplingParams(min_tokens=11))
    assert caught.value.field == "min_tokens"


def test_a_prompt_that_leaves_no_room_is_too_long():
    with pytest.raises(PromptTooLong):
        fit(SamplingParams(), num_prompt_tokens=100)
