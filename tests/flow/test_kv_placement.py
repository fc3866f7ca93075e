"""A conversation stays on the worker that holds its K/V blocks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.client import stream_chat
from tests.support.cluster import LocalCluster, running_cluster

pytestmark = pytest.mark.flow

NUM_SESSIONS = 5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[LocalCluster]:
    """Three fake workers for which prompt tokens cost time, so that it pays to hold them."""
    with running_cluster(
        tmp_path_factory.mktemp("kv"),
        "--engine",
        "fake",
        "--workers",
        "3",
        environment={
            "TOKENMILL_FAKE_STEP_TIME_S": "0.005",
            "TOKENMILL_FAKE_PREFILL_S_PER_TOKEN": "0.001",
        },
    ) as cluster:
        yield cluster


async def turn(cluster: LocalCluster, session: str, message: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=60) as client:
        reply = await client.post(
            "/api/chat/message",
            json={"message": message, "stream": False, "max_tokens": 8},
            headers={"X-Session-ID": session},
        )
    assert reply.status_code == 200, reply.text
    return reply.json() | {"request_id": reply.headers["x-request-id"]}


async def test_a_second_turn_goes_to_the_worker_that_holds_the_first(cluster: LocalCluster):
    """By chance alone, five sessions on three workers would do so once in 243 times."""
    workers: list[str] = []
    for idx in range(NUM_SESSIONS):
        session = f"kv-placement-{idx}"
        opening = f"Session {idx}. " + "Think of light and of water. " * 20
        first = await turn(cluster, session, opening)
        worker = cluster.worker_of(first["request_id"])
        # An answer of another conversation takes longer than a worker's word on its blocks.
        await stream_chat(
            cluster.url,
            {
                "model": cluster.model,
                "messages": [{"role": "user", "content": f"Interlude {idx}."}],
                "max_tokens": 20,
            },
        )
        second = await turn(cluster, session, "And why is that?")
        assert cluster.worker_of(second["request_id"]) == worker
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
        workers.append(worker)
    assert len(set(workers)) > 1, "conversations are spread over workers"
