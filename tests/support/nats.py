"""A private, real nats-server for a test: free port, JetStream in a directory of the test's own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path


class NatsServer:
    """Runs nats-server; `restart` keeps port and store, as a broker's restart does."""

    def __init__(self, store: Path) -> None:
        beside = Path(sys.executable).with_name("nats-server")
        self._program = str(beside) if beside.exists() else shutil.which("nats-server")
        assert self._program, "nats-server is not installed"
        self._store = store
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        assert self._program
        self._process = subprocess.Popen(
            [self._program, "-a", "127.0.0.1", "-p", str(self._port), "-js", "-sd", self._store],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError(f"nats-server did not listen on port {self._port}")

    def stop(self) -> None:
        if self._process is not None:
            # The wheel's script may be a launcher; SIGTERM reaches the program itself.
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
