"""The real command with real processes, on free ports, with an engine that needs no weights."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.flow

TIMEOUT_S = 120


def run(*arguments: str, state_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments, "--state-dir", str(state_dir)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def start(state_dir: Path) -> None:
    flags = ("--detach", "--engine", "fake", "--http-port", "0", "--grpc-port", "0")
    done = run("up", *flags, state_dir=state_dir)
    assert done.returncode == 0, done.stderr
    assert "cluster ready" in done.stderr


def status(state_dir: Path) -> dict[str, Any]:
    done = run("status", "--json", state_dir=state_dir)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not all(is_gone(pid) for pid in pids):
        assert time.monotonic() < deadline, "processes are left behind"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Path]:
    state_dir = tmp_path_factory.mktemp("state")
    start(state_dir)
    yield state_dir
    pids = [process["pid"] for process in status(state_dir)["processes"]]
    done = run("down", state_dir=state_dir)
    assert done.returncode == 0, done.stderr
    wait_until_gone(pids)


def test_every_process_is_ready(state_dir: Path):
    found = status(state_dir)
    assert found["phase"] == "ready"
    assert {process["health"] for process in found["processes"]} == {"ready"}
    assert len(found["processes"]) == 7


def test_an_answer_is_told_with_its_figures_and_its_trace_is_whole(state_dir: Path):
    done = run("ask", "Hello?", "--max-tokens", "8", "--json", state_dir=state_dir)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["output_tokens"] == 8
    assert answer["finish_reason"] == "length"

    done = run("trace", answer["request_id"], "--json", state_dir=state_dir)
    assert done.returncode == 0, done.stderr
    trace = json.loads(done.stdout)
    known = {span["span_id"] for span in trace["spans"]}
    assert {span["parent_span_id"] for span in trace["spans"]} <= known | {""}
    assert {span["service"] for span in trace["spans"]} == {
        f"tokenmill-{name}" for name in ("gateway", "tokenizer", "scheduler", "worker", "cache")
    }
    assert "engine.step" in {span["name"] for span in trace["linked_spans"]}


def test_a_second_cluster_in_the_same_directory_is_refused(state_dir: Path):
    done = run("up", "--engine", "fake", state_dir=state_dir)
    assert done.returncode == 1
    assert "runs already" in done.stderr


def test_children_do_not_outlive_a_supervisor_that_was_killed(tmp_path: Path, model_dir: Path):
    start(tmp_path)
    found = status(tmp_path)
    os.kill(found["supervisor_pid"], signal.SIGKILL)
    wait_until_gone([process["pid"] for process in found["processes"]])
    assert run("status", state_dir=tmp_path).returncode == 1
