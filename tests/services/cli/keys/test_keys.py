"""Keys from the command line, on a real broker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nats import NatsServer


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


def tokenmill(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments],
        env={**os.environ, "TOKENMILL_NATS_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_json_on_standard_output_is_nothing_but_json(broker: NatsServer):
    created = json.loads(
        tokenmill("keys", "create", "--name", "a", "--json", url=broker.url).stdout
    )
    assert created["api_key"].startswith("tm-")
    listed = json.loads(tokenmill("keys", "list", "--json", url=broker.url).stdout)
    assert "a" in json.dumps(listed)
    assert created["api_key"] not in json.dumps(listed)
