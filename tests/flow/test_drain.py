"""SIGTERM lets running work finish and sends new work elsewhere."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import StreamedAnswer, stream_chat
from tests.support.cluster import LocalCluster, running_cluster, tokenmill

pytestmark = pytest.mark.flow

NUM_TOKENS = 60


def body_of(cluster: LocalCluster) -> dict[str, Any]:
    return {
        "model": cluster.model,
        "messages": [{"role": "user", "content": "Hello."}],
        "max_tokens": NUM_TOKENS,
    }


async def test_a_draining_worker_finishes_and_takes_no_more(fake_cluster: LocalCluster):
    stopped: list[tuple[str, int]] = []

    def stop_once(answer: StreamedAnswer) -> None:
        if not stopped:
            name = fake_cluster.worker_of(answer.request_id)
            stopped.append((name, fake_cluster.kill(name, signal.SIGTERM)))

    running = asyncio.ensure_future(
        stream_chat(fake_cluster.url, body_of(fake_cluster), on_tokens=stop_once)
    )
    async with asyncio.timeout(20):
        while not stopped:
            await asyncio.sleep(0.01)
    others = await asyncio.gather(
        *(stream_chat(fake_cluster.url, body_of(fake_cluster)) for _ in range(4))
    )
    answer = await running
    assert len(answer.token_ids) == NUM_TOKENS
    assert not later_attempts(fake_cluster, answer.request_id), "it was finished elsewhere"
    assert all(other.is_done for other in others)
    assert stopped[0][0] not in {fake_cluster.worker_of(other.request_id) for other in others}
    await asyncio.to_thread(fake_cluster.wait_restarted, *stopped[0])


async def test_down_lets_a_running_stream_finish(tmp_path: Path, model_dir: Path):
    with running_cluster(
        tmp_path, "--engine", "fake", environment={"TOKENMILL_FAKE_STEP_TIME_S": "0.02"}
    ) as cluster:
        started = asyncio.Event()
        running = asyncio.ensure_future(
            stream_chat(cluster.url, body_of(cluster), on_tokens=lambda _: started.set())
        )
        await started.wait()
        await asyncio.to_thread(tokenmill, "down", state_dir=tmp_path)
        answer = await running
        assert answer.is_done
        assert len(answer.token_ids) == NUM_TOKENS


def later_attempts(cluster: LocalCluster, request_id: str) -> list[dict[str, Any]]:
    return [
        line
        for gateway in cluster.processes("gateway")
        for line in cluster.logs(gateway["name"])
        if line["event"] == "attempt.queued" and line.get("request_id") == request_id
    ]
