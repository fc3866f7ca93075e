import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nats import NatsServer


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The default model, made ready in the default cache."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.models.prepare"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=True,
    )
    return Path(json.loads(done.stdout)["dir"])


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A private broker with JetStream."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()
