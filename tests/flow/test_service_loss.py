"""The loss of any one process, or of the broker, loses no request."""

import asyncio
import signal
from typing import Any

import pytest

from services.runtime.bus import Bus, connect_bus
from services.wire.subjects import REQUESTS_STREAM
from tests.support.client import StreamedAnswer, stream_chat
from tests.support.cluster import LocalCluster

pytestmark = pytest.mark.flow

NUM_REQUESTS = 12
NUM_TOKENS = 40


def body_of(cluster: LocalCluster, number: int = 0) -> dict[str, Any]:
    return {
        "model": cluster.model,
        "messages": [{"role": "user", "content": f"Question number {number}."}],
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
    }


async def num_queued(bus: Bus) -> int:
    return (await bus.jetstream.stream_info(REQUESTS_STREAM)).state.messages


async def ask_many(cluster: LocalCluster) -> list[StreamedAnswer]:
    return await asyncio.gather(
        *(
            stream_chat(cluster.http_urls()[number % 2], body_of(cluster, number))
            for number in range(NUM_REQUESTS)
        )
    )


def assert_whole(answers: list[StreamedAnswer]) -> None:
    for answer in answers:
        assert answer.error is None
        assert answer.is_done
        assert len(answer.token_ids) == NUM_TOKENS


@pytest.mark.parametrize("name", ["scheduler", "cache"])
async def test_a_killed_service_loses_no_request(fake_cluster: LocalCluster, name: str):
    undisturbed = await ask_many(fake_cluster)
    asking = asyncio.ensure_future(ask_many(fake_cluster))
    await asyncio.sleep(0)
    old_pid = fake_cluster.kill(name)
    answers = await asking
    assert_whole(answers)
    assert [answer.token_ids for answer in answers] == [a.token_ids for a in undisturbed]
    await asyncio.to_thread(fake_cluster.wait_restarted, name, old_pid)


async def test_a_killed_tokenizer_delays_new_requests_and_loses_none(fake_cluster: LocalCluster):
    asking = asyncio.ensure_future(ask_many(fake_cluster))
    old_pid = fake_cluster.kill("tokenizer")
    assert_whole(await asking)
    assert_whole(await ask_many(fake_cluster))
    await asyncio.to_thread(fake_cluster.wait_restarted, "tokenizer", old_pid)


async def test_running_streams_outlive_a_broker_restart(fake_cluster: LocalCluster):
    killed: list[int] = []

    def kill_once(answer: StreamedAnswer) -> None:
        if not killed:
            killed.append(fake_cluster.kill("nats"))

    answer = await stream_chat(fake_cluster.url, body_of(fake_cluster), on_tokens=kill_once)
    assert_whole([answer])
    await asyncio.to_thread(fake_cluster.wait_restarted, "nats", killed[0])
    assert_whole(await ask_many(fake_cluster))


async def test_queued_requests_outlive_a_broker_restart(fake_cluster: LocalCluster):
    # A stopped scheduler pulls nothing: all requests are in the queue.
    fake_cluster.kill("scheduler", signal.SIGSTOP)
    try:
        asking = asyncio.ensure_future(ask_many(fake_cluster))
        async with connect_bus(fake_cluster.state["nats_url"], name="test") as bus:
            async with asyncio.timeout(20):
                while await num_queued(bus) < NUM_REQUESTS:
                    await asyncio.sleep(0.02)
            old_pid = fake_cluster.kill("nats")
            await asyncio.to_thread(fake_cluster.wait_restarted, "nats", old_pid)
            assert await num_queued(bus) >= NUM_REQUESTS
    finally:
        fake_cluster.kill("scheduler", signal.SIGCONT)
    assert_whole(await asking)


async def test_a_frozen_worker_is_noticed_and_its_stream_goes_on_elsewhere(
    fake_cluster: LocalCluster,
):
    undisturbed = await stream_chat(fake_cluster.url, body_of(fake_cluster))
    frozen: list[str] = []

    def freeze_once(answer: StreamedAnswer) -> None:
        if not frozen:
            frozen.append(fake_cluster.worker_of(answer.request_id))
            fake_cluster.kill(frozen[0], signal.SIGSTOP)

    try:
        async with asyncio.timeout(60):
            answer = await stream_chat(
                fake_cluster.url, body_of(fake_cluster), on_tokens=freeze_once
            )
    finally:
        fake_cluster.kill(frozen[0], signal.SIGCONT)
    assert answer.token_ids == undisturbed.token_ids
