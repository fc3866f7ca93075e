import socket
from pathlib import Path
from typing import Any

import pytest

from services.cli.cluster.options import ClusterOptions
from services.cli.cluster.ports import choose_ports
from services.cli.failure import CommandFailed


def options(**fields: Any) -> ClusterOptions:
    given: dict[str, Any] = {"http_port": 0, "grpc_port": 0} | fields
    return ClusterOptions("m", "/m", Path("/state"), **given)


def test_no_port_is_given_twice():
    ports = choose_ports(options(num_workers=3, num_gateways=2))
    chosen = [
        ports.nats,
        ports.nats_monitor,
        ports.traces,
        ports.tokenizer,
        ports.cache,
        ports.scheduler,
        *ports.workers,
        *(port for pair in ports.gateways for port in (pair.http, pair.grpc)),
        *ports.metrics,
    ]
    assert len(ports.workers) == 3
    assert len(ports.gateways) == 2
    assert len(set(chosen)) == len(chosen) == 13 + 9


@pytest.mark.parametrize(("field", "flag"), [("http_port", "--http-port"), ("grpc_port", "--grpc")])
def test_a_port_in_use_is_named_with_its_flag(field: str, flag: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandFailed, match=f"port {port} is in use.*{flag}"):
            choose_ports(options(**{field: port}))


def test_the_next_gateway_passes_over_a_port_in_use():
    first = choose_ports(options()).gateways[0]
    with socket.create_server(("127.0.0.1", first.http + 1)):
        ports = choose_ports(options(http_port=first.http, grpc_port=first.grpc, num_gateways=2))
    assert ports.gateways[0] == first
    assert ports.gateways[1].http > first.http + 1


def test_chosen_ports_are_free_again_for_the_children():
    port = choose_ports(options()).nats
    with socket.create_server(("127.0.0.1", port)):
        pass
