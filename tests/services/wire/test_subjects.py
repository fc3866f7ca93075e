import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.request import RequestClass
from services.wire.subjects import BANDS, RESUME_BAND, band_of, requests_subject, token


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_a_name_becomes_one_subject_token_without_collisions(left: str, right: str):
    assert not set(token(left)) & set(".*> \t\n")
    assert (token(left) == token(right)) == (left == right)


def test_dots_in_model_names_do_not_split_the_subject():
    assert requests_subject("Qwen2.5", "batch").count(".") == 3


@pytest.mark.parametrize("request_class", list(RequestClass))
def test_later_attempts_take_the_resume_lane(request_class: RequestClass):
    assert band_of(request_class, 1) == request_class.value
    assert band_of(request_class, 2) == RESUME_BAND == BANDS[0]
