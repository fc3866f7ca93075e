import os
from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.cluster.identity import ProcessIdentity, identify
from services.cli.cluster.state import (
    ClusterState,
    ProcessState,
    forget_state,
    read_state,
    running_cluster,
    state_path,
    write_state,
)
from services.cli.failure import CommandFailed


def some_state(state_dir: Path) -> ClusterState:
    return ClusterState(
        phase="ready",
        supervisor=identify(os.getpid()),
        model_name="m",
        http_url="http://127.0.0.1:8080",
        grpc_target="127.0.0.1:50051",
        nats_url="nats://127.0.0.1:4222",
        traces_file=None,
        started_unix_s=1.5,
        drain_timeout_s=30.0,
        state_dir=str(state_dir),
        engine_environment={"A": "1"},
        processes=(
            ProcessState("nats", "nats", 7, 8, None, 9, "/healthz", "nats.log", num_restarts=2),
        ),
    )


def test_a_state_reads_as_it_was_written(tmp_path: Path):
    write_state(tmp_path, some_state(tmp_path))
    assert read_state(tmp_path) == some_state(tmp_path)


def test_writing_leaves_one_file_behind(tmp_path: Path):
    write_state(tmp_path, some_state(tmp_path))
    write_state(tmp_path, some_state(tmp_path))
    assert list(tmp_path.iterdir()) == [state_path(tmp_path)]


def test_no_file_is_no_state(tmp_path: Path):
    assert read_state(tmp_path) is None
    forget_state(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 99}', '{"version": 1}', "3"])
def test_a_file_of_another_version_is_refused_by_name(tmp_path: Path, text: str):
    state_path(tmp_path).write_text(text)
    with pytest.raises(CommandFailed, match=r"cluster\.json is no state file"):
        read_state(tmp_path)


def test_a_cluster_whose_supervisor_lives_is_running(tmp_path: Path):
    write_state(tmp_path, some_state(tmp_path))
    assert running_cluster(tmp_path).model_name == "m"


def test_a_process_id_that_is_used_again_is_not_the_supervisor(tmp_path: Path):
    stranger = ProcessIdentity(os.getpid(), identify(os.getpid()).start_ticks + 1)
    write_state(tmp_path, replace(some_state(tmp_path), supervisor=stranger))
    with pytest.raises(CommandFailed, match="no cluster runs here"):
        running_cluster(tmp_path)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_state_tells_what_its_gateways_speak(tmp_path: Path, scheme: str):
    assert replace(some_state(tmp_path), http_url=f"{scheme}://127.0.0.1:8080").scheme == scheme
