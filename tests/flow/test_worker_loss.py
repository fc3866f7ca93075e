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


STEERED = {
    "n": 2,
    "temperature": 0.8,
    "seed": 7,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.3,
    "frequency_penalty": 0.2,
    "logit_bias": {"30": -5},
    "logprobs": True,
    "top_logprobs": 2,
}


@pytest.mark.timeout(400)
async def test_choices_penalties_and_logprobs_survive(real_cluster: LocalCluster):
    undisturbed = await stream_chat(real_cluster.url, body_of(real_cluster, STEERED))
    answer = await stream_and_kill(real_cluster, STEERED, 20)
    assert answer.error is None
    assert answer.is_done
    assert answer.usage["completion_tokens"] == 2 * NUM_TOKENS
    for mine, expected in ((answer, undisturbed), (answer.others[1], undisturbed.others[1])):
        assert mine.token_ids == expected.token_ids
        assert mine.text == expected.text
        assert mine.logprobs == expected.logprobs
        assert len(mine.logprobs) == NUM_TOKENS
    assert answer.token_ids != answer.others[1].token_ids
