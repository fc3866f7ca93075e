"""A worker that is halted for a moment, as on a machine that is busy, is not a dead one."""

import asyncio
import signal

import pytest

from tests.support.client import StreamedAnswer, stream_chat
from tests.support.cluster import LocalCluster, wait_until

pytestmark = pytest.mark.flow


def halt_until_it_is_missed(cluster: LocalCluster, name: str) -> None:
    """The scheduler misses its heartbeats long before pings find that it is frozen."""

    def num_missed() -> int:
        lines = cluster.logs("scheduler")
        return sum(line["event"] == "worker.lost" and line["worker_id"] == name for line in lines)

    before = num_missed()
    cluster.kill(name, signal.SIGSTOP)
    try:
        wait_until(lambda: num_missed() > before, 20, f"{name} is missed")
    finally:
        cluster.kill(name, signal.SIGCONT)


async def test_answers_go_on_where_they_stood(fake_cluster: LocalCluster):
    body = {
        "model": fake_cluster.model,
        "messages": [{"role": "user", "content": "Say what you see."}],
        "max_tokens": 60,
        "temperature": 0.0,
        "ignore_eos": True,
    }
    undisturbed = await stream_chat(fake_cluster.url, body)
    halts: list[asyncio.Task[None]] = []

    def halt_once(answer: StreamedAnswer) -> None:
        if not halts:
            name = fake_cluster.worker_of(answer.request_id)
            halt = asyncio.to_thread(halt_until_it_is_missed, fake_cluster, name)
            halts.append(asyncio.create_task(halt))

    answer = await stream_chat(fake_cluster.url, body, on_tokens=halt_once)
    await asyncio.gather(*halts)
    assert halts
    assert answer.token_ids == undisturbed.token_ids
    assert answer.error is None
    lost = [
        line
        for gateway in fake_cluster.processes("gateway")
        for line in fake_cluster.logs(gateway["name"])
        if line["event"] == "attempt.lost" and line["request_id"] == answer.request_id
    ]
    assert not lost
