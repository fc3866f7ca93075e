from __future__ import annotations

from worker.address import own_address

BROKER = "nats://127.0.0.1:4222,nats://other:4222"


def test_an_address_that_is_listened_on_is_named_as_it_is() -> None:
    assert own_address("10.1.2.3", 5, broker_url=BROKER) == "10.1.2.3:5"


def test_an_ipv6_address_is_put_in_brackets() -> None:
    assert own_address("::1", 5, broker_url=BROKER) == "[::1]:5"


def test_a_server_on_all_interfaces_names_the_one_towards_the_broker() -> None:
    assert own_address("0.0.0.0", 5, broker_url=BROKER) == "127.0.0.1:5"
