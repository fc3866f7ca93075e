"""A process that stalls is found by its name, and the parts sum to what the client waited."""

import asyncio
import json
import signal
from typing import Any

import pytest

from tests.support.client import StreamedAnswer, stream_chat
from tests.support.cluster import LocalCluster, tokenmill

pytestmark = pytest.mark.flow

STALL_S = 0.6
NUM_TOKENS = 12


def body_of(cluster: LocalCluster) -> dict[str, Any]:
    return {
        "model": cluster.model,
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "max_tokens": NUM_TOKENS,
        "ignore_eos": True,
    }


async def explained(cluster: LocalCluster, request_id: str) -> dict[str, Any]:
    told = await asyncio.to_thread(
        tokenmill, "explain", request_id, "--json", state_dir=cluster.state_dir
    )
    return json.loads(told)


def assert_sums_up(told: dict[str, Any]) -> None:
    whole = sum(told["parts_ms"].values()) + told["unattributed_ms"]
    assert whole == pytest.approx(told["latency_ms"])
    assert told["unattributed_ms"] <= 0.02 * told["latency_ms"]


@pytest.mark.parametrize(
    ("process", "part"), [("tokenizer", "tokenizing"), ("scheduler", "queue_wait")]
)
async def test_a_stall_before_the_worker_is_blamed_on_its_process(
    fake_cluster: LocalCluster, process: str, part: str
):
    name = fake_cluster.processes(process)[0]["name"]
    fake_cluster.kill(name, signal.SIGSTOP)
    try:
        asking = asyncio.ensure_future(stream_chat(fake_cluster.url, body_of(fake_cluster)))
        await asyncio.sleep(STALL_S)
    finally:
        fake_cluster.kill(name, signal.SIGCONT)
    answer = await asking
    told = await explained(fake_cluster, answer.request_id)
    assert_sums_up(told)
    assert next(iter(told["ttft_parts_ms"])) == part


async def stalled_mid_stream(cluster: LocalCluster, name_of: Any) -> dict[str, Any]:
    """Explains a request during which a process stalled once tokens flowed."""
    flowing = asyncio.Event()

    def on_tokens(answer: StreamedAnswer) -> None:
        if len(answer.token_ids) >= 3:
            flowing.set()

    asking = asyncio.ensure_future(
        stream_chat(cluster.http_urls()[0], body_of(cluster), on_tokens=on_tokens)
    )
    await flowing.wait()
    names = name_of(cluster)
    for name in names:
        cluster.kill(name, signal.SIGSTOP)
    try:
        await asyncio.sleep(STALL_S)
    finally:
        for name in names:
            cluster.kill(name, signal.SIGCONT)
    answer = await asking
    return await explained(cluster, answer.request_id)


def all_workers(cluster: LocalCluster) -> list[str]:
    return [entry["name"] for entry in cluster.processes("worker")]


def first_gateway(cluster: LocalCluster) -> list[str]:
    return [cluster.processes("gateway")[0]["name"]]


async def test_a_stall_of_the_worker_is_blamed_on_the_engine(fake_cluster: LocalCluster):
    told = await stalled_mid_stream(fake_cluster, all_workers)
    assert_sums_up(told)
    worst = told["slow_gaps"][0]
    assert worst["ms"] >= 0.8 * STALL_S * 1000
    assert next(iter(worst["parts_ms"])) in ("decode", "between_steps")


async def test_a_stall_of_the_gateway_is_blamed_on_the_way_to_the_client(
    fake_cluster: LocalCluster,
):
    told = await stalled_mid_stream(fake_cluster, first_gateway)
    assert_sums_up(told)
    # The engine went on meanwhile: its tokens waited for the gateway.
    worst = told["slow_gaps"][0]
    assert next(iter(worst["parts_ms"])) in ("network", "client_backpressure")


async def test_the_slowest_request_is_found_without_its_id(fake_cluster: LocalCluster):
    answer = await stream_chat(fake_cluster.url, {**body_of(fake_cluster), "max_tokens": 200})
    await explained(fake_cluster, answer.request_id)
    told = await asyncio.to_thread(
        tokenmill, "explain", "--slowest", "1", "--json", state_dir=fake_cluster.state_dir
    )
    assert json.loads(told)[0]["request_id"] == answer.request_id
