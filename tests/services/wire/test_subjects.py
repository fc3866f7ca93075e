import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.request import RequestClass
from services.wire.subjects import (
    BANDS,
    RESUME_BAND,
    band_of_lane,
    lane_notice_subject,
    lane_of,
    lane_of_subject,
    name_of_token,
    requests_consumer,
    requests_subject,
    token,
)


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_a_name_becomes_one_subject_token_without_collisions(left: str, right: str):
    assert not set(token(left)) & set(".*> \t\n")
    assert (token(left) == token(right)) == (left == right)
    assert name_of_token(token(left)) == left


def test_dots_in_model_names_do_not_split_the_subject():
    assert requests_subject("Qwen2.5", "batch").count(".") == 3


@pytest.mark.parametrize("request_class", list(RequestClass))
def test_later_attempts_take_the_resume_band(request_class: RequestClass):
    assert band_of_lane(lane_of(request_class, 1, "t")) == request_class.value
    assert lane_of(request_class, 2, "t") == RESUME_BAND == BANDS[0]


@given(st.text(min_size=1, max_size=20), st.sampled_from(RequestClass))
def test_a_lane_is_found_in_its_subject(tenant: str, request_class: RequestClass):
    lane = lane_of(request_class, 1, tenant)
    assert lane_of_subject(requests_subject("a.b", lane)) == lane
    assert lane_of_subject(lane_notice_subject("a.b", lane)) == lane
    assert "." not in requests_consumer("a.b", lane)


@pytest.mark.parametrize("name", ["", "plain", "a:b.c", "ä=3", "=41", "a b"])
def test_a_token_can_be_read_back(name: str):
    assert name_of_token(token(name)) == name
