from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.cluster.options import ClusterOptions, ClusterPorts, GatewayPorts
from services.cli.cluster.plan import (
    START_ORDER,
    STOP_ORDER,
    ProcessSpec,
    Programs,
    Role,
    engine_environment,
    nats_config,
    plan_cluster,
)

OPTIONS = ClusterOptions(
    model_name="m", model_dir="/models/m", state_dir=Path("/state"), num_workers=2, num_gateways=2
)
PORTS = ClusterPorts(
    nats=1,
    nats_monitor=2,
    traces=3,
    tokenizer=4,
    cache=5,
    scheduler=6,
    workers=(7, 8),
    gateways=(GatewayPorts(8080, 50051), GatewayPorts(8081, 50052)),
    metrics=(11, 12, 13, 14, 15, 16, 17, 18),
)
PROGRAMS = Programs(python="/venv/python", nats_server="/venv/nats-server", num_cpus=4)


def plan(options: ClusterOptions = OPTIONS, **environment: str) -> dict[str, ProcessSpec]:
    specs = plan_cluster(options, PORTS, PROGRAMS, environment)
    return {spec.name: spec for spec in specs}


def test_a_cluster_has_every_process_once_and_workers_and_gateways_as_wanted():
    assert list(plan()) == [
        "nats", "traces", "tokenizer", "cache", "scheduler",
        "worker-1", "worker-2", "gateway-1", "gateway-2",
    ]  # fmt: skip


def test_all_but_the_workers_give_way():
    nices = {name: spec.nice for name, spec in plan().items()}
    assert nices.pop("worker-1") == nices.pop("worker-2") == 0
    assert set(nices.values()) == {10}


def test_every_process_finds_the_others():
    environment = plan()["gateway-1"].environment
    assert environment["TOKENMILL_NATS_URL"] == "nats://127.0.0.1:1"
    assert environment["TOKENMILL_TOKENIZER_TARGET"] == "127.0.0.1:4"
    assert environment["TOKENMILL_CACHE_TARGET"] == "file:///state/cache-shards.json"
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:3"


def test_each_gateway_has_its_own_pair_of_ports():
    pairs = [
        (spec.environment["TOKENMILL_HTTP_PORT"], spec.environment["TOKENMILL_GRPC_PORT"])
        for spec in plan().values()
        if spec.role is Role.GATEWAY
    ]
    assert pairs == [("8080", "50051"), ("8081", "50052")]


def test_workers_share_the_cpus_unless_the_user_divides_them():
    assert plan()["worker-1"].environment["TOKENMILL_NUM_THREADS"] == "2"
    alone = plan(replace(OPTIONS, num_workers=1))["worker-1"]
    assert "TOKENMILL_NUM_THREADS" not in alone.environment
    chosen = plan(TOKENMILL_NUM_THREADS="3")["worker-1"]
    assert "TOKENMILL_NUM_THREADS" not in chosen.environment


def test_without_a_trace_store_the_users_own_endpoint_is_left_alone():
    specs = plan(replace(OPTIONS, collect_traces=False))
    assert "traces" not in specs
    assert not any(name.startswith("OTEL_") for name in specs["gateway-1"].environment)


def test_a_proxy_is_not_asked_for_loopback():
    environment = plan(no_proxy="corp.example")["tokenizer"].environment
    assert environment["no_proxy"] == "corp.example,127.0.0.1,localhost"


def test_a_gateway_may_take_longer_than_its_own_drain():
    options = replace(OPTIONS, drain_timeout_s=100)
    gateway = plan(options)["gateway-1"]
    assert gateway.environment["TOKENMILL_DRAIN_TIMEOUT_S"] == "100"
    assert gateway.grace_s > 100


@pytest.mark.parametrize("order", [START_ORDER, STOP_ORDER])
def test_every_role_has_its_place_in_the_order(order: tuple[frozenset[Role] | Role, ...]):
    roles = [role for wave in order for role in ([wave] if isinstance(wave, Role) else wave)]
    assert sorted(roles) == sorted(Role)


def test_gateways_stop_first_and_the_trace_store_last():
    assert STOP_ORDER[0] is Role.GATEWAY
    assert STOP_ORDER[-2:] == (Role.NATS, Role.TRACES)


def test_an_engine_elsewhere_gets_the_workers_settings():
    options = replace(OPTIONS, engine="fake", dtype="fp32", num_workers=1)
    environment = engine_environment(options, PROGRAMS, {})
    worker = plan(options)["worker-1"].environment
    assert environment.items() <= worker.items()
    assert environment["TOKENMILL_DTYPE"] == "fp32"


def test_the_broker_listens_on_loopback_and_keeps_its_files_in_the_state_directory():
    text = nats_config(OPTIONS, PORTS)
    assert 'listen: "127.0.0.1:1"' in text
    assert 'store_dir: "/state/nats"' in text


def test_workers_do_not_spin_unless_the_user_says_how():
    assert plan()["worker-1"].environment["GOMP_SPINCOUNT"] == "1000"
    assert "GOMP_SPINCOUNT" not in plan(OMP_WAIT_POLICY="active")["worker-1"].environment
    assert "GOMP_SPINCOUNT" not in plan()["gateway-1"].environment


def test_every_process_but_the_broker_tells_its_metrics():
    specs = plan()
    assert specs.pop("nats").metrics_port is None
    assert [spec.metrics_port for spec in specs.values()] == list(PORTS.metrics)
    assert specs["traces"].environment["TOKENMILL_METRICS_PORT"] == "11"


def test_for_workers_that_only_keep_time_nobody_gives_way():
    assert {spec.nice for spec in plan(replace(OPTIONS, engine="fake")).values()} == {0}


def test_gateways_are_asked_over_tls_when_they_speak_it():
    specs = plan(TOKENMILL_TLS_CERT_FILE="/cert.pem")
    assert [name for name, spec in specs.items() if spec.has_tls] == ["gateway-1", "gateway-2"]
    assert not any(spec.has_tls for spec in plan().values())
