from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from services.cli.healthcheck import check_grpc
from tests.support.nats import free_port

pytestmark = pytest.mark.flow


@pytest.fixture
def start() -> Iterator:
    processes: list[subprocess.Popen[str]] = []

    def start_cache(**environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "cache_service.main"],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start_cache
    for process in processes:
        process.kill()
        process.communicate()


def _port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "rpc.listening":
            return event["port"]
    raise AssertionError("the process ended before it listened")


def test_process_serves_and_drains_on_sigterm(start):
    metrics_port = free_port()
    process = start(TOKENMILL_METRICS_PORT=str(metrics_port))
    port = _port_of(process)
    assert check_grpc(f"127.0.0.1:{port}", 5.0) == ""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as reply:
        assert b'tokenmill_cache_capacity_bytes{tier="memory"} 1.073741824e+09' in reply.read()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def test_capacity_out_of_range_is_named_with_its_variable(start):
    process = start(TOKENMILL_CAPACITY_BYTES="0")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "TOKENMILL_CAPACITY_BYTES" in err
