"""kill -9 of the worker that streams: the client's stream goes on without gap or repeat."""

import asyncio
from typing import Any

import pytest

from tests.support.client import StreamedAnswer, stream_chat
from tests.support.cluster import LocalCluster

pytestmark = pytest.mark.flow

NUM_TOKENS = 72
GREEDY = {"temperature": 0.0}
SEEDED = {"temperature": 0.9, "top_p": 0.95, "seed": 1234}


def body_of(cluster: LocalCluster, sampling: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": cluster.model,
        "messages": [
            {"role": "user", "content": "Tell me a long story about a lighthouse keeper."}
        ],
        "max_tokens": NUM_TOKENS,
        "ignore_eos": True,
        **sampling,
    }


async def stream_and_kill(
    cluster: LocalCluster, sampling: dict[str, Any], at_token: int
) -> StreamedAnswer:
    killed: list[tuple[str, int]] = []

    def kill_once(answer: StreamedAnswer) -> None:
        if len(answer.token_ids) >= at_token and not killed:
            name = cluster.worker_of(answer.request_id)
            killed.append((name, cluster.kill(name)))

    answer = await stream_chat(cluster.url, body_of(cluster, sampling), on_tokens=kill_once)
    assert killed, "nothing was killed"
    await asyncio.to_thread(cluster.wait_restarted, *killed[0])
    return answer


@pytest.mark.timeout(400)
@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
async def test_ids_equal_an_undisturbed_run(real_cluster: LocalCluster, sampling: dict[str, Any]):
    undisturbed = await stream_chat(real_cluster.url, body_of(real_cluster, sampling))
    assert len(undisturbed.token_ids) == NUM_TOKENS
    for at_token in (1, 5, 20, 60):
        answer = await stream_and_kill(real_cluster, sampling, at_token)
        assert answer.error is None
        assert answer.is_done
        assert answer.token_ids == undisturbed.token_ids, f"killed at token {at_token}"
        assert answer.text == undisturbed.text
