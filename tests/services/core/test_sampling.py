import math
from dataclasses import replace

import pytest

from services.core.errors import InvalidRequest
from services.core.sampling import SamplingParams, check_sampling

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
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: object):
    with pytest.raises(InvalidRequest) as caught:
        check_sampling(replace(VALID, **{field: value}), vocab_size=10)
    assert caught.value.field == field
    assert field in caught.value.message
    assert "allowed" in caught.value.message
