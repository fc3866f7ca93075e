"""Requests on their way from a real broker to workers, while nothing breaks."""

import asyncio
import time
from collections import Counter

from services.core.dead_letter import DeathReason
from services.core.load import WorkerState
from services.core.request import RequestClass, SubmissionOutcome
from services.wire.queue import decode_refusal, encode_queued_request
from services.wire.subjects import REFUSALS, lane_of, requests_subject
from tests.services.scheduler.fake_cluster import FakeCluster, eventually
from tests.services.scheduler.requests import LANE, MODEL, jain, queued


async def test_a_queued_request_reaches_a_worker_and_leaves_the_queue(cluster: FakeCluster):
    worker = await cluster.worker()
    await cluster.start_scheduler()
    request = queued("a", num_prompt_tokens=300)
    await cluster.enqueue(request)
    await worker.wait_for_requests(1)
    assert worker.batches[0][0].request == request
    await cluster.queue_empty()


async def test_every_worker_of_an_idle_fleet_serves(cluster: FakeCluster):
    workers = [await cluster.worker(f"w{idx}") for idx in range(3)]
    await cluster.start_scheduler()
    for idx in range(6):
        await cluster.enqueue(str(idx))
        await eventually(lambda num=idx + 1: sum(len(w.request_ids) for w in workers) == num)
    assert [len(worker.request_ids) for worker in workers] == [2, 2, 2]


async def test_requests_that_came_before_any_worker_go_out_as_batches(cluster: FakeCluster):
    await cluster.start_scheduler(max_batch_size=4)
    await cluster.enqueue(*"abcdefgh")
    worker = await cluster.worker()
    await worker.wait_for_requests(8)
    assert len(worker.batches) < 8
    assert all(len(batch) <= 4 for batch in worker.batches)


async def test_a_batch_is_waited_for_when_told_so(cluster: FakeCluster):
    worker = await cluster.worker()
    await cluster.start_scheduler(max_batch_size=3, max_wait_ms=20_000, wait_while_idle=True)
    await cluster.enqueue("a", "b", "c")
    await worker.wait_for_requests(3)
    assert [len(batch) for batch in worker.batches] == [3]


async def test_no_more_is_pulled_than_can_run_and_a_look_ahead(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=2, keeps_requests=True)
    scheduler = await cluster.start_scheduler(num_look_ahead=3)
    await cluster.enqueue(*(str(idx) for idx in range(20)))
    await worker.wait_for_requests(2)

    async def are_acknowledged() -> bool:
        return await cluster.num_queued() == 18

    await eventually(are_acknowledged)
    # One more at most: a lingering pull was open when the worker filled up.
    assert 3 <= scheduler.num_held <= 3 + 1
    assert len(worker.request_ids) == 2


async def test_nothing_is_pulled_while_no_worker_can_be_given_requests(cluster: FakeCluster):
    worker = await cluster.worker(state=WorkerState.DRAINING)
    scheduler = await cluster.start_scheduler()
    await cluster.enqueue("a")
    num_beats = worker.num_beats
    await eventually(lambda: worker.num_beats > num_beats + 3)
    assert scheduler.num_held == 0
    worker.state = WorkerState.READY
    await worker.wait_for_requests(1)


async def test_a_resumed_request_overtakes_all_others(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1, num_running=1)
    scheduler = await cluster.start_scheduler(num_look_ahead=1)
    await cluster.enqueue(
        queued("batch", request_class=RequestClass.BATCH),
        queued("interactive"),
        queued("resumed", attempt=2, request_class=RequestClass.BATCH),
    )
    # Of less urgent lanes one is held at most; the most urgent is pulled nevertheless.
    await eventually(lambda: scheduler.num_held >= 1)
    worker.num_running = 0
    await worker.wait_for_requests(3)
    assert worker.request_ids.index("resumed") < worker.request_ids.index("batch")


async def test_a_refused_request_is_placed_on_another_worker_at_once(cluster: FakeCluster):
    first = await cluster.worker("w1")
    await cluster.start_scheduler()
    first.outcomes.append(SubmissionOutcome.REFUSED)
    first.gate.clear()
    await cluster.enqueue("a")
    await first.wait_for_requests(1)
    second = await cluster.worker("w2")
    await eventually(lambda: second.num_beats > 1)
    first.fall_silent()
    first.gate.set()
    assert await second.wait_for_requests(1) == ["a"]
    await cluster.queue_empty()


async def test_a_request_that_its_owner_no_longer_wants_leaves_the_queue(cluster: FakeCluster):
    worker = await cluster.worker()
    worker.outcomes.append(SubmissionOutcome.GONE)
    await cluster.start_scheduler()
    await cluster.enqueue("a")
    await worker.wait_for_requests(1)
    await cluster.queue_empty()


async def test_a_request_whose_owner_cannot_be_reached_is_tried_again(cluster: FakeCluster):
    worker = await cluster.worker()
    worker.outcomes.append(SubmissionOutcome.OWNER_UNREACHABLE)
    await cluster.start_scheduler(owner_retry_s=0.05)
    await cluster.enqueue("a")
    assert await worker.wait_for_requests(2) == ["a", "a"]
    await cluster.queue_empty()


async def test_an_owner_that_stays_away_is_given_up_at_the_deadline(cluster: FakeCluster):
    worker = await cluster.worker()
    worker.outcomes.extend([SubmissionOutcome.OWNER_UNREACHABLE] * 20)
    await cluster.start_scheduler(owner_retry_s=0.05)
    await cluster.enqueue(queued("a", deadline_unix_ms=int(time.time() * 1000) + 300))
    await cluster.queue_empty()
    assert set(worker.request_ids) == {"a"}


async def test_a_request_cancelled_while_held_is_never_submitted(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1, num_running=1)
    scheduler = await cluster.start_scheduler()
    await cluster.enqueue("a")
    await eventually(lambda: scheduler.num_held == 1)
    await cluster.cancel("a")
    await cluster.queue_empty()
    worker.num_running = 0
    await cluster.enqueue("b")
    assert await worker.wait_for_requests(1) == ["b"]


async def test_a_request_cancelled_before_it_is_pulled_is_never_submitted(cluster: FakeCluster):
    await cluster.start_scheduler()
    await cluster.enqueue("a", "b")
    await cluster.cancel("a")
    worker = await cluster.worker()
    assert await worker.wait_for_requests(1) == ["b"]
    await cluster.queue_empty()
    assert worker.request_ids == ["b"]


async def test_an_expired_request_is_thrown_away(cluster: FakeCluster):
    worker = await cluster.worker()
    await cluster.start_scheduler()
    await cluster.enqueue(queued("late", deadline_unix_ms=int(time.time() * 1000) - 1), "b")
    await cluster.queue_empty()
    assert worker.request_ids == ["b"]


async def test_what_cannot_begin_in_time_goes_to_no_worker(cluster: FakeCluster):
    worker = await cluster.worker(num_pending_tokens=1_000_000)
    refusals = await cluster.bus.client.subscribe(REFUSALS)
    await cluster.start_scheduler()
    await cluster.enqueue(queued("late", deadline_unix_ms=int(time.time() * 1000) + 20_000), "b")
    await cluster.queue_empty()
    assert worker.request_ids == ["b"]
    # Its owner hears of it at once.
    assert decode_refusal((await refusals.next_msg(5)).data) == "late"


async def test_a_held_request_expires_at_its_deadline(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1, num_running=1)
    await cluster.start_scheduler()
    await cluster.enqueue(queued("a", deadline_unix_ms=int(time.time() * 1000) + 300))
    await cluster.queue_empty()
    assert worker.request_ids == []


async def test_a_message_that_is_no_request_is_thrown_away(cluster: FakeCluster):
    worker = await cluster.worker()
    await cluster.start_scheduler()
    await cluster.bus.enqueue(
        requests_subject(MODEL, "interactive"), b"\xff\xff", message_id="x", template="x"
    )
    await cluster.enqueue("b")
    await cluster.queue_empty()
    assert worker.request_ids == ["b"]


async def test_two_schedulers_submit_each_request_once(cluster: FakeCluster):
    workers = [await cluster.worker(f"w{idx}", max_requests=64) for idx in range(2)]
    await cluster.create_queue()
    await cluster.enqueue(*(str(idx) for idx in range(60)))
    await cluster.start_scheduler(instance_id="s1")
    await cluster.start_scheduler(instance_id="s2")
    await cluster.queue_empty()
    seen = [request_id for worker in workers for request_id in worker.request_ids]
    assert sorted(seen, key=int) == [str(idx) for idx in range(60)]


async def test_the_least_urgent_lane_is_pulled_where_there_is_room_for_one(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1)
    await cluster.start_scheduler(num_look_ahead=0)
    await cluster.enqueue(queued("a", request_class=RequestClass.BATCH))
    assert await worker.wait_for_requests(1) == ["a"]


async def test_a_request_that_was_pulled_too_often_is_given_up(cluster: FakeCluster):
    worker = await cluster.worker()
    worker.outcomes.extend([SubmissionOutcome.OWNER_UNREACHABLE] * 9)
    await cluster.start_scheduler(owner_retry_s=0.01, max_deliveries=2)
    await cluster.enqueue("a")
    await cluster.queue_empty()
    assert worker.request_ids == ["a", "a"]
    assert (await cluster.dead_letter()).reason is DeathReason.UNDELIVERABLE


async def test_a_flood_does_not_hide_other_tenants(cluster: FakeCluster):
    """One tenant has 20,000 requests waiting before seven others send their first."""
    await cluster.create_queue(max_messages=30_000)
    for start in range(0, 20_000, 500):
        flood = (queued(f"t0-{idx}", tenant="t0") for idx in range(start, start + 500))
        await asyncio.gather(*(cluster.enqueue(request) for request in flood))
    worker = await cluster.worker(max_requests=4, keeps_requests=True, num_running=4)
    await cluster.start_scheduler(queue_max_messages=30_000)
    for num in range(1, 8):
        await cluster.enqueue(*(queued(f"t{num}-{idx}", tenant=f"t{num}") for idx in range(20)))
    for num_served in range(1, 161):
        # A request ends, so one place becomes free.
        worker.num_running -= 1
        await worker.announce()
        await worker.wait_for_requests(num_served)
    counts = Counter(request_id.partition("-")[0] for request_id in worker.request_ids)
    assert jain([counts[f"t{num}"] for num in range(8)]) >= 0.95


async def test_a_lane_whose_notice_was_lost_is_found_in_the_queue(cluster: FakeCluster):
    worker = await cluster.worker()
    await cluster.start_scheduler()
    request = queued("a", tenant="unnoticed")
    await cluster.bus.enqueue(
        requests_subject(MODEL, lane_of(request.request_class, 1, request.tenant)),
        encode_queued_request(request),
        message_id="a.1",
        template="x",
    )
    assert await worker.wait_for_requests(1) == ["a"]


async def test_lanes_in_use_are_known_after_a_restart(cluster: FakeCluster):
    worker = await cluster.worker()
    async with cluster.scheduler() as first:
        await cluster.enqueue("a")
        await worker.wait_for_requests(1)
        await cluster.queue_empty()
        await first.drain(5)
    # Without another notice, and with nothing in the queue that could be found.
    await cluster.start_scheduler()
    await cluster.bus.enqueue(
        requests_subject(MODEL, LANE),
        encode_queued_request(queued("b")),
        message_id="b.1",
        template="x",
    )
    assert await worker.wait_for_requests(2) == ["a", "b"]
