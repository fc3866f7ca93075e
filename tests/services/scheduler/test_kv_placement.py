"""Requests go where their prompt is held, with events over a real broker."""

from dataclasses import replace

from services.core.load import TenantOutput
from services.core.request import QueuedRequest, RequestClass
from tests.services.scheduler.fake_cluster import FakeCluster, eventually
from tests.services.scheduler.fake_worker import BLOCK_SIZE, FakeWorker
from tests.services.scheduler.requests import queued

PROMPT = tuple(range(20 * BLOCK_SIZE))


def of_prompt(request_id: str) -> QueuedRequest:
    return replace(queued(request_id), prompt_token_ids=(*PROMPT, 7))


async def ask(cluster: FakeCluster, request: QueuedRequest, *workers: FakeWorker) -> None:
    """Returns when one of the workers has the request."""
    await cluster.enqueue(request)

    def has_arrived() -> bool:
        return any(request.request_id in worker.request_ids for worker in workers)

    await eventually(has_arrived)


async def ask_until_everyone_was_asked(cluster: FakeCluster, *workers: FakeWorker) -> None:
    """Short requests spread over idle workers, so that all are known and the turns are even."""
    for idx in range(len(workers)):
        await ask(cluster, queued(f"short-{idx}"), *workers)
    assert all(worker.request_ids for worker in workers)


async def test_requests_go_to_the_worker_that_holds_their_prompt(cluster: FakeCluster):
    holder, other = await cluster.worker("w1"), await cluster.worker("w2")
    await cluster.start_scheduler()
    await ask_until_everyone_was_asked(cluster, holder, other)
    holder.hold(PROMPT)
    await holder.announce_blocks()
    await cluster.bus.client.flush()
    for idx in range(4):
        await ask(cluster, of_prompt(str(idx)), holder, other)
    assert set("0123") <= set(holder.request_ids)


async def test_an_overloaded_holder_does_not_get_more(cluster: FakeCluster):
    holder, other = await cluster.worker("w1"), await cluster.worker("w2")
    await cluster.start_scheduler()
    holder.hold(PROMPT)
    await holder.announce_blocks()
    holder.num_running = holder.max_requests
    await holder.announce()
    await cluster.bus.client.flush()
    await cluster.enqueue(of_prompt("a"))
    assert await other.wait_for_requests(1) == ["a"]


async def test_a_lost_event_is_made_good_from_the_workers_own_list(cluster: FakeCluster):
    holder, other = await cluster.worker("w1"), await cluster.worker("w2")
    await cluster.start_scheduler()
    holder.hold(PROMPT)
    await holder.announce_blocks(is_lost=True)
    await eventually(lambda: holder.num_lists > 0)
    await ask_until_everyone_was_asked(cluster, holder, other)
    for idx in range(4):
        await ask(cluster, of_prompt(str(idx)), holder, other)
    assert set("0123") <= set(holder.request_ids)
    assert (holder.num_lists, other.num_lists) == (1, 0)


async def test_a_scheduler_that_starts_late_asks_for_the_lists(cluster: FakeCluster):
    holder = await cluster.worker("w1")
    holder.hold(PROMPT)
    await holder.announce_blocks()
    await cluster.start_scheduler()
    await eventually(lambda: holder.num_lists == 1)


async def test_other_policies_can_be_chosen(cluster: FakeCluster):
    holder, other = await cluster.worker("w1"), await cluster.worker("w2")
    holder.hold(PROMPT)
    await holder.announce_blocks()
    await cluster.start_scheduler(placement_policy="round-robin")
    for idx in range(4):
        await ask(cluster, of_prompt(str(idx)), holder, other)
    assert len(holder.request_ids) == len(other.request_ids) == 2


async def test_output_tokens_that_a_tenant_got_count_against_it(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1, num_running=1)
    scheduler = await cluster.start_scheduler()
    num_beats = worker.num_beats
    await eventually(lambda: worker.num_beats > num_beats + 1)
    worker.outputs = (TenantOutput("greedy", RequestClass.INTERACTIVE, 10_000),)
    num_beats = worker.num_beats
    await eventually(lambda: worker.num_beats > num_beats + 1)
    await cluster.enqueue(queued("greedy", tenant="greedy"), queued("modest", tenant="modest"))
    await eventually(lambda: scheduler.num_held == 2)
    worker.num_running = 0
    await worker.wait_for_requests(2)
    assert worker.request_ids == ["modest", "greedy"]
