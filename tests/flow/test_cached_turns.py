"""A second turn reuses K/V: on the same worker, on another one, and after a restart."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.cluster import LocalCluster, running_cluster, wait_until

pytestmark = pytest.mark.flow

BLOCK = 32


async def turn(client: httpx.AsyncClient, session: str, message: str) -> dict[str, Any]:
    reply = await client.post(
        "/api/chat/message",
        json={"message": message, "stream": False, "max_tokens": 40, "temperature": 0},
        headers={"X-Session-ID": session},
    )
    assert reply.status_code == 200, reply.text
    return reply.json() | {"request_id": reply.headers["x-request-id"]}


def cached_tokens(reply: dict[str, Any]) -> int:
    return reply["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.timeout(300)
async def test_turns_reuse_blocks_wherever_they_land(real_cluster: LocalCluster):
    names = [entry["name"] for entry in real_cluster.processes("worker")]
    async with httpx.AsyncClient(base_url=real_cluster.url, timeout=90) as client:
        opening = "Explain to me, in simple words, why the sky is blue. " + "Think of light. " * 20
        first = await turn(client, "cached-turns", opening)
        assert first["usage"]["prompt_tokens"] > 2 * BLOCK
        worker = real_cluster.worker_of(first["request_id"])
        wait_for_offer(real_cluster, first["request_id"])

        # The other worker must take the next turn: it is the only one left.
        old_pid = real_cluster.kill(worker)
        second = await turn(client, "cached-turns", "And why is it red in the evening?")
        other = real_cluster.worker_of(second["request_id"])
        assert other in set(names) - {worker}
        assert cached_tokens(second) >= first["usage"]["prompt_tokens"] // BLOCK * BLOCK

        # Back from its restart, with an empty pool, the first one must take the third turn.
        await asyncio.to_thread(real_cluster.wait_restarted, worker, old_pid)
        wait_for_offer(real_cluster, second["request_id"])
        old_pid = real_cluster.kill(other)
        third = await turn(client, "cached-turns", "And at noon?")
        assert real_cluster.worker_of(third["request_id"]) == worker
        assert cached_tokens(third) >= second["usage"]["prompt_tokens"] // BLOCK * BLOCK
        await asyncio.to_thread(real_cluster.wait_restarted, other, old_pid)


def wait_for_offer(cluster: LocalCluster, request_id: str) -> None:
    """Waits until the blocks of a finished request are in the cache service."""

    def was_offered() -> bool:
        return any(span["name"] == "cache.offer" for span in cluster.trace(request_id)["spans"])

    wait_until(was_offered, 20, f"the blocks of {request_id} are offered")


@pytest.mark.timeout(200)
async def test_a_turn_after_the_cluster_was_restarted_finds_its_blocks_on_disk(tmp_path, model_dir):
    message = "Remember this for me, please: " + "one thing after another, " * 20
    answers: list[dict[str, Any]] = []
    for _ in range(2):
        with running_cluster(tmp_path, "--engine", "fake") as cluster:
            async with httpx.AsyncClient(base_url=cluster.url, timeout=30) as client:
                # No request waits for a cache service that is just starting: an offer's end tells
                # that the worker has reached it.
                opening = f"Count on from {len(answers)}, slowly. "
                other = await turn(client, f"other-{len(answers)}", opening * 12)
                await asyncio.to_thread(wait_for_offer, cluster, other["request_id"])
                answers.append(await turn(client, "restart", message))
            if len(answers) == 1:
                await asyncio.to_thread(wait_for_offer, cluster, answers[0]["request_id"])
    first, second = answers
    assert cached_tokens(first) == 0
    assert cached_tokens(second) >= (first["usage"]["prompt_tokens"] - BLOCK) // BLOCK * BLOCK
