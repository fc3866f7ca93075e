import pytest

from services.core.request import is_request_id, new_request_id


def test_new_ids_are_valid_and_distinct():
    ids = {new_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(is_request_id(text) for text in ids)


@pytest.mark.parametrize("text", ["", "a b", "x" * 129, "a\nb", "ä"])
def test_an_id_that_is_unsafe_in_headers_is_refused(text: str):
    assert not is_request_id(text)
