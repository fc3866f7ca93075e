"""What a client sees when nothing can run its request, or when it leaves."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.runtime import names
from services.runtime.bus import connect_bus
from services.wire.subjects import REQUESTS_STREAM
from tests.support.client import stream_chat
from tests.support.cluster import LocalCluster, running_cluster

pytestmark = pytest.mark.flow

NUM_SLOTS = 2
QUEUE_SIZE = 4


@pytest.fixture(scope="module")
def small_cluster(
    tmp_path_factory: pytest.TempPathFactory, model_dir: Path
) -> Iterator[LocalCluster]:
    """One slow fake worker with two slots, and a short queue."""
    with running_cluster(
        tmp_path_factory.mktemp("small"),
        "--engine",
        "fake",
        environment={
            "TOKENMILL_FAKE_STEP_TIME_S": "0.05",
            "TOKENMILL_MAX_NUM_SEQS": str(NUM_SLOTS),
            "TOKENMILL_NUM_WAITING_REQUESTS": "0",
            "TOKENMILL_NUM_LOOK_AHEAD": "0",
            "TOKENMILL_QUEUE_MAX_MESSAGES": str(QUEUE_SIZE),
        },
    ) as cluster:
        yield cluster


@contextmanager
def frozen(cluster: LocalCluster, name: str) -> Iterator[None]:
    cluster.kill(name, signal.SIGSTOP)
    try:
        yield
    finally:
        cluster.kill(name, signal.SIGCONT)


def body_of(cluster: LocalCluster, **more: Any) -> dict[str, Any]:
    return {
        "model": cluster.model,
        "messages": [{"role": "user", "content": "Hello."}],
        "max_tokens": 10,
        **more,
    }


def live_requests(cluster: LocalCluster) -> float:
    return cluster.metric(names.METRIC_REQUESTS_RUNNING) + cluster.metric(
        names.METRIC_REQUESTS_QUEUED
    )


async def wait_for_an_empty_queue(cluster: LocalCluster) -> None:
    """A request that nobody waits for any more leaves the queue when a scheduler pulls it."""
    async with connect_bus(cluster.state["nats_url"], name="test") as bus, asyncio.timeout(20):
        while (await bus.jetstream.stream_info(REQUESTS_STREAM)).state.messages:
            await asyncio.sleep(0.02)


async def test_without_a_worker_a_request_waits_until_its_deadline_then_504(
    small_cluster: LocalCluster,
):
    with frozen(small_cluster, "worker-1"):
        async with httpx.AsyncClient(base_url=small_cluster.url, timeout=30) as client:
            reply = await client.post(
                "/v1/chat/completions",
                json=body_of(small_cluster),
                headers={"X-Request-Timeout-S": "1"},
            )
    assert reply.status_code == 504
    assert reply.json()["error"]["message"]


async def test_a_full_queue_is_503_with_retry_after(small_cluster: LocalCluster):
    await wait_for_an_empty_queue(small_cluster)
    with frozen(small_cluster, "scheduler"):
        async with httpx.AsyncClient(base_url=small_cluster.url, timeout=30) as client:
            asked = [
                asyncio.ensure_future(
                    client.post(
                        "/v1/chat/completions",
                        json=body_of(small_cluster),
                        headers={"X-Request-Timeout-S": "3"},
                    )
                )
                for _ in range(QUEUE_SIZE + 2)
            ]
            replies = await asyncio.gather(*asked)
    codes = sorted(reply.status_code for reply in replies)
    assert codes == [503, 503, *[504] * QUEUE_SIZE]
    refused = [reply for reply in replies if reply.status_code == 503]
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)


async def test_a_request_that_waits_behind_others_is_answered(small_cluster: LocalCluster):
    await wait_for_an_empty_queue(small_cluster)
    answers = await asyncio.gather(
        *(stream_chat(small_cluster.url, body_of(small_cluster)) for _ in range(NUM_SLOTS * 2))
    )
    assert all(answer.is_done and len(answer.token_ids) == 10 for answer in answers)


@pytest.mark.parametrize("num_abandoned", [NUM_SLOTS, NUM_SLOTS + 2])
async def test_clients_that_leave_make_room_at_once(
    small_cluster: LocalCluster, num_abandoned: int
):
    """Long answers fill both slots (and the queue); when their clients leave, the next starts."""
    await wait_for_an_empty_queue(small_cluster)
    long_answer = body_of(small_cluster, max_tokens=2000)
    leaving = [
        asyncio.ensure_future(stream_chat(small_cluster.url, long_answer))
        for _ in range(num_abandoned)
    ]
    async with asyncio.timeout(20):
        while live_requests(small_cluster) < num_abandoned:
            await asyncio.sleep(0.02)
    for client in leaving:
        client.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    # 2000 steps of 50 ms are 100 s: only a freed slot can answer in this time.
    async with asyncio.timeout(15):
        answer = await stream_chat(small_cluster.url, body_of(small_cluster))
    assert answer.is_done
    assert live_requests(small_cluster) == 0
