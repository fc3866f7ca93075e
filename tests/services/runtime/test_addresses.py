import ipaddress

import pytest

from services.runtime.addresses import own_address


def test_a_bound_host_is_kept():
    assert own_address("127.0.0.1", 5, broker_url="nats://x:1") == "127.0.0.1:5"
    assert own_address("::1", 5, broker_url="nats://x:1") == "[::1]:5"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_every_interface_becomes_the_one_towards_the_broker(host: str):
    address = own_address(host, 5, broker_url="nats://127.0.0.1:4222,nats://other:4222")
    assert ipaddress.ip_address(address.removesuffix(":5")).is_loopback
