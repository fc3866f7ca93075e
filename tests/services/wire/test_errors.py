import grpc
import pytest

from services.core import errors
from services.wire.errors import ERROR_TABLE, from_rpc_error, public_message, row_of, to_status


def sample(kind: type[errors.TokenmillError]) -> errors.TokenmillError:
    if kind is errors.BodyTooLarge:
        return errors.BodyTooLarge(size_bytes=11, limit_bytes=10)
    return kind("something is 3; allowed: 1")


@pytest.mark.parametrize("row", ERROR_TABLE, ids=lambda row: row.error.__name__)
def test_every_error_survives_the_wire(row):
    original = sample(row.error)
    status = to_status(original)
    back = from_rpc_error(row.grpc_code, status.message, status, peer="peer")
    assert row_of(back).grpc_code == row.grpc_code
    assert isinstance(original, type(back))
    assert original.message in back.message


def test_field_and_retry_delay_travel_as_rich_details():
    refused = to_status(errors.InvalidRequest("n is 2; allowed: 1", field="n"))
    back = from_rpc_error(
        grpc.StatusCode.INVALID_ARGUMENT, refused.message, refused, peer="gateway"
    )
    assert isinstance(back, errors.InvalidRequest)
    assert back.field == "n"
    full = to_status(errors.Overloaded("full", retry_after_s=1.5))
    back = from_rpc_error(grpc.StatusCode.UNAVAILABLE, full.message, full, peer="gateway")
    assert isinstance(back, errors.Overloaded)
    assert back.retry_after_s == 1.5


def test_a_plain_unavailable_is_a_lost_dependency_that_names_its_peer():
    back = from_rpc_error(grpc.StatusCode.UNAVAILABLE, "connection refused", None, peer="tokenizer")
    assert isinstance(back, errors.DependencyLost)
    assert "tokenizer" in back.message


def test_the_text_of_a_bug_stays_inside():
    assert row_of(ValueError("secret")).http_status == 500
    assert "secret" not in public_message(ValueError("secret"))
