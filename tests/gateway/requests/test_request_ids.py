import pytest

from gateway.requests.request_ids import request_ids
from services.core.request import is_request_id


def test_a_callers_id_is_shown_and_never_used_twice_inside():
    first, second = request_ids("mine"), request_ids("mine")
    assert first.shown == second.shown == "mine"
    assert first.own != second.own
    assert first.own.startswith("mine.")


@pytest.mark.parametrize("asked", ["", "a b", "x" * 129, "ü", "a\n"])
def test_an_unsafe_id_counts_as_none(asked: str):
    ids = request_ids(asked)
    assert ids.shown == ids.own
    assert is_request_id(ids.own)


def test_the_longest_id_is_still_echoed():
    ids = request_ids("x" * 128)
    assert ids.shown == "x" * 128
    assert is_request_id(ids.own)
