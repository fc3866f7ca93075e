"""The live view in a terminal: on a pseudo-terminal as a person sees it, and as JSON."""

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tests.support.client import stream_chat
from tests.support.cluster import LocalCluster, tokenmill

pytestmark = pytest.mark.flow

WAIT_S = 30


def body_of(cluster: LocalCluster) -> dict[str, object]:
    message = {"role": "user", "content": "Why is the sky blue?"}
    return {"model": cluster.model, "messages": [message], "max_tokens": 8, "ignore_eos": True}


async def test_one_look_as_json_tells_of_load_and_of_every_process(fake_cluster: LocalCluster):
    await stream_chat(fake_cluster.url, body_of(fake_cluster))
    told = json.loads(tokenmill("top", "--once", "--json", state_dir=fake_cluster.state_dir))
    assert told["requests_per_s"] > 0
    assert told["ttft_ms"]["p50"] > 0
    assert {worker["worker_id"] for worker in told["workers"]} == {
        "worker-1", "worker-2", "worker-3",
    }  # fmt: skip
    figures = {process["name"]: process for process in told["processes"]}
    assert set(figures) == {process["name"] for process in fake_cluster.state["processes"]}
    assert figures["worker-1"]["resident_bytes"] > 1 << 20
    assert figures["worker-1"]["utilisation"] is not None
    assert figures["nats"]["cpu"] is None


def test_a_terminal_is_painted_again_and_again_until_q(fake_cluster: LocalCluster):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "services.cli.main", "top", "--interval", "0.2"]
    process = subprocess.Popen(
        [*command, "--state-dir", str(fake_cluster.state_dir)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"},
    )
    os.close(theirs)
    try:
        shown = read_until(ours, lambda text: text.count("worker-3") >= 4)
        assert "tokens/s" in shown
        assert "K/V pool" in shown
        os.write(ours, b"q")
        read_until(ours, lambda text: "\x1b[?1049l" in text)
        assert process.wait(timeout=WAIT_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(descriptor: int, holds: object) -> str:
    """What the terminal was sent, once the condition holds."""
    assert callable(holds)
    text, deadline = "", time.monotonic() + WAIT_S
    while not holds(text):
        assert time.monotonic() < deadline, text[-2000:]
        readable, _, _ = select.select([descriptor], [], [], 0.5)
        if readable:
            try:
                text += os.read(descriptor, 65536).decode(errors="replace")
            except OSError:
                # The other side closed: all that came is here.
                assert holds(text), text[-2000:]
    return text
