"""A real cluster for a test: the `tokenmill` command, real processes, ports of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

START_TIMEOUT_S = 150


class LocalCluster:
    """A running cluster, by its state file."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.state_dir / "cluster.json").read_text())

    @property
    def model(self) -> str:
        return self.state["model_name"]

    @property
    def url(self) -> str:
        return self.state["http_url"]

    @property
    def grpc_target(self) -> str:
        return self.state["grpc_target"]

    def process(self, name: str) -> dict[str, Any]:
        return next(entry for entry in self.state["processes"] if entry["name"] == name)

    def processes(self, role: str) -> list[dict[str, Any]]:
        return [entry for entry in self.state["processes"] if entry["role"] == role]

    def http_urls(self) -> list[str]:
        return [f"http://127.0.0.1:{entry['http_port']}" for entry in self.processes("gateway")]

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to a process; returns the pid that got it."""
        pid = self.process(name)["pid"]
        os.kill(pid, number)
        return pid

    def wait_restarted(self, name: str, old_pid: int, timeout_s: float = 90) -> None:
        """Waits until a killed process is back and ready."""

        def is_back() -> bool:
            entry = self.process(name)
            return entry["pid"] not in (None, old_pid) and entry["is_ready"]

        wait_until(is_back, timeout_s, f"{name} is ready again")

    def logs(self, name: str) -> list[dict[str, Any]]:
        """Log lines of a process, oldest first."""
        lines = Path(self.process(name)["log_path"]).read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def worker_of(self, request_id: str) -> str:
        """Name of the worker that a request was last placed on."""
        placed = [
            line["worker_id"]
            for line in self.logs("scheduler")
            if line["event"] == "request.placed" and line["request_id"] == request_id
        ]
        return placed[-1]

    def trace(self, request_id: str) -> dict[str, Any]:
        return json.loads(tokenmill("trace", request_id, "--json", state_dir=self.state_dir))

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples with these labels, over all gateways."""
        total = 0.0
        for url in self.http_urls():
            for line in httpx.get(f"{url}/metrics").text.splitlines():
                head, _, value = line.rpartition(" ")
                fits = all(f'{key}="{wanted}"' in head for key, wanted in labels.items())
                if fits and head.partition("{")[0] == name:
                    total += float(value)
        return total


@contextmanager
def running_cluster(
    state_dir: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[LocalCluster]:
    """Starts a cluster on free ports, drains it at the end, and checks that nothing is left."""
    ports = ("--http-port", "0", "--grpc-port", "0")
    tokenmill(
        "up",
        "--detach",
        *ports,
        *flags,
        state_dir=state_dir,
        environment=environment,
        timeout_s=START_TIMEOUT_S,
    )
    cluster = LocalCluster(state_dir)
    pids = [entry["pid"] for entry in cluster.state["processes"]]
    try:
        yield cluster
    finally:
        # A test may have stopped it itself.
        if (state_dir / "cluster.json").exists():
            pids = [entry["pid"] for entry in cluster.state["processes"] if entry["pid"]]
            tokenmill("down", state_dir=state_dir)
        left = [pid for pid in pids if is_running(pid)]
        assert not left, f"processes left behind: {left}"


def tokenmill(
    *arguments: str,
    state_dir: Path,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 100,
) -> str:
    """Runs the command; returns its standard output, or fails with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments, "--state-dir", str(state_dir)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"tokenmill {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout


def is_running(pid: int) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(holds: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Polls a condition of another process."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)
