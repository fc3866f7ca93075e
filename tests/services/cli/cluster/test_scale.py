from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.cluster.growth import Growth
from services.cli.cluster.plan import Role
from services.cli.cluster.scale import parse_counts, read_request, request_path
from services.cli.failure import CommandFailed
from tests.services.cli.cluster.test_plan import OPTIONS, PORTS, PROGRAMS, plan


def test_counts_of_several_processes_are_read():
    assert parse_counts(["worker=3", "gateway=1"]) == {Role.WORKER: 3, Role.GATEWAY: 1}


@pytest.mark.parametrize("text", ["nats=2", "tokenizer=2", "worker", "worker=0", "worker=x"])
def test_what_cannot_be_done_is_said(text: str):
    with pytest.raises(CommandFailed):
        parse_counts([text])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"worker": "x"}', '{"stranger": 1}'])
def test_an_unreadable_wish_is_none(tmp_path: Path, content: str):
    request_path(tmp_path).write_text(content)
    assert read_request(tmp_path) == {}


@pytest.mark.parametrize("role", [Role.WORKER, Role.GATEWAY])
def test_a_further_process_is_as_a_larger_cluster_would_have_it(role: Role):
    spec = Growth(OPTIONS, PORTS, PROGRAMS).spec(role, 3)
    second = plan(replace(OPTIONS, num_workers=3))[f"{role.value}-2"]
    assert (spec.name, spec.role) == (f"{role.value}-3", role)
    assert spec.command == second.command
    assert spec.environment.keys() == second.environment.keys()
    assert spec.grpc_port not in {second.grpc_port, 7, 8, 50051, 50052}


def test_a_further_process_has_a_port_of_its_own_for_metrics():
    spec = Growth(OPTIONS, PORTS, PROGRAMS).spec(Role.SCHEDULER, 2)
    assert spec.environment["TOKENMILL_METRICS_PORT"] == str(spec.metrics_port)
    assert spec.metrics_port not in (None, *PORTS.metrics)


def test_a_second_scheduler_has_a_name_of_its_own():
    spec = Growth(OPTIONS, PORTS, PROGRAMS).spec(Role.SCHEDULER, 2)
    assert spec.name == spec.environment["TOKENMILL_INSTANCE_ID"] == "scheduler-2"


def test_a_second_shard_of_the_cache_has_a_name_and_a_file_of_its_own():
    first = plan(OPTIONS)["cache"]
    spec = Growth(OPTIONS, PORTS, PROGRAMS).spec(Role.CACHE, 2)
    assert spec.name == "cache-2"
    assert spec.grpc_port != first.grpc_port
    assert spec.environment["TOKENMILL_DISK_PATH"] != first.environment["TOKENMILL_DISK_PATH"]
