import pytest

from services.core.access_policy import AuthMode, asks_for_keys
from services.core.errors import InvalidRequest

LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"]
OUTSIDE = ["0.0.0.0", "::", "10.0.0.1", "example.org", ""]


@pytest.mark.parametrize("host", LOOPBACK + OUTSIDE)
def test_required_asks_everywhere(host: str):
    assert asks_for_keys(AuthMode.REQUIRED, host)


@pytest.mark.parametrize("mode", [AuthMode.AUTO, AuthMode.OPEN])
def test_loopback_may_be_open_and_nothing_else(mode: AuthMode):
    assert not any(asks_for_keys(mode, host) for host in LOOPBACK)
    for host in OUTSIDE:
        with pytest.raises(InvalidRequest, match="keys create"):
            asks_for_keys(mode, host)
