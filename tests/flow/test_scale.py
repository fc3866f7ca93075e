"""More and fewer processes while clients ask, and several schedulers of which one dies."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import StreamedAnswer, stream_chat
from tests.support.cluster import LocalCluster, running_cluster, tokenmill

pytestmark = pytest.mark.flow

MAX_TOKENS = 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[LocalCluster]:
    """One slow fake worker with few places, so that requests wait and all schedulers hold some."""
    with running_cluster(
        tmp_path_factory.mktemp("scale"),
        "--engine",
        "fake",
        environment={
            "TOKENMILL_FAKE_STEP_TIME_S": "0.02",
            "TOKENMILL_MAX_NUM_SEQS": "4",
            "TOKENMILL_NUM_WAITING_REQUESTS": "0",
        },
    ) as cluster:
        yield cluster


async def ask(cluster: LocalCluster, count: int, url: str | None = None) -> list[StreamedAnswer]:
    asked = [
        stream_chat(
            url or cluster.url,
            {
                "model": cluster.model,
                "messages": [{"role": "user", "content": f"Question {idx}."}],
                "max_tokens": MAX_TOKENS,
            },
        )
        for idx in range(count)
    ]
    return list(await asyncio.gather(*asked))


def are_whole(answers: list[StreamedAnswer]) -> bool:
    return all(answer.is_done and len(answer.token_ids) == MAX_TOKENS for answer in answers)


async def scale(cluster: LocalCluster, *wanted: str) -> None:
    await asyncio.to_thread(tokenmill, "scale", *wanted, state_dir=cluster.state_dir)


@pytest.mark.timeout(300)
async def test_a_cluster_grows_serves_through_the_death_of_a_scheduler_and_shrinks(
    cluster: LocalCluster,
):
    await scale(cluster, "worker=3", "scheduler=3", "cache=2")
    assert len(cluster.processes("worker")) == len(cluster.processes("scheduler")) == 3
    assert all(entry["is_ready"] for entry in cluster.state["processes"])

    asking = asyncio.create_task(ask(cluster, 60))
    async with asyncio.timeout(60):
        while not placed_by(cluster, "scheduler-2"):
            await asyncio.sleep(0.05)
    old_pid = cluster.kill("scheduler-2")
    assert are_whole(await asking)
    await asyncio.to_thread(cluster.wait_restarted, "scheduler-2", old_pid)

    # Requests run on workers that are about to go.
    asking = asyncio.create_task(ask(cluster, 20))
    await scale(cluster, "worker=1", "scheduler=1", "cache=1")
    assert are_whole(await asking)
    assert [entry["name"] for entry in cluster.processes("worker")] == ["worker-1"]
    assert [entry["name"] for entry in cluster.processes("scheduler")] == ["scheduler"]
    assert [entry["name"] for entry in cluster.processes("cache")] == ["cache"]
    assert are_whole(await ask(cluster, 2))


async def test_a_second_gateway_answers_and_goes_again(cluster: LocalCluster):
    await scale(cluster, "gateway=2")
    first, second = cluster.http_urls()
    answers = await asyncio.gather(ask(cluster, 4, first), ask(cluster, 4, second))
    assert all(are_whole(of_gateway) for of_gateway in answers)
    await scale(cluster, "gateway=1")
    assert cluster.http_urls() == [first]
    assert are_whole(await ask(cluster, 2, first))


async def test_what_cannot_be_scaled_is_refused(cluster: LocalCluster):
    with pytest.raises(AssertionError, match="cannot be scaled"):
        await scale(cluster, "nats=2")


def placed_by(cluster: LocalCluster, scheduler: str) -> bool:
    return any(line["event"] == "request.placed" for line in cluster.logs(scheduler))
