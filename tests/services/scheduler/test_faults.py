"""Workers, schedulers and the broker die; requests do not."""

import asyncio
import time

import pytest

from services.core.dead_letter import DeathReason
from services.wire.queue import decode_queued_request
from services.wire.subjects import REQUESTS_STREAM, RESUME_BAND, requests_consumer
from tests.services.scheduler.fake_cluster import FakeCluster, eventually
from tests.services.scheduler.requests import MODEL
from tests.support.nats import NatsServer


async def test_a_request_for_a_worker_that_died_goes_to_another(cluster: FakeCluster):
    dead = await cluster.worker("w1")
    await cluster.start_scheduler()
    await dead.close_port()  # its heartbeats go on: nobody knows yet
    await cluster.enqueue("a")
    alive = await cluster.worker("w2")
    assert await alive.wait_for_requests(1) == ["a"]
    await cluster.queue_empty()


async def test_a_request_whose_worker_dies_with_it_goes_to_another(cluster: FakeCluster):
    dying = await cluster.worker("w1")
    dying.gate.clear()
    await cluster.start_scheduler()
    await cluster.enqueue("a")
    await dying.wait_for_requests(1)
    alive = await cluster.worker("w2")
    await dying.stop()
    assert await alive.wait_for_requests(1) == ["a"]
    await cluster.queue_empty()


async def test_a_worker_that_does_not_answer_in_time_is_replaced(cluster: FakeCluster):
    stuck = await cluster.worker("w1")
    stuck.gate.clear()
    await cluster.start_scheduler(submit_timeout_s=0.2)
    await cluster.enqueue("a")
    await stuck.wait_for_requests(1)
    stuck.fall_silent()
    alive = await cluster.worker("w2")
    assert await alive.wait_for_requests(1) == ["a"]


async def test_requests_wait_for_a_worker_when_all_are_silent(cluster: FakeCluster):
    silent = await cluster.worker("w1")
    scheduler = await cluster.start_scheduler(heartbeat_timeout_s=0.2)
    await cluster.enqueue("a")
    await silent.wait_for_requests(1)
    await silent.stop()
    await eventually(lambda: not scheduler.has_workers)
    await cluster.enqueue("b")
    alive = await cluster.worker("w2")
    assert await alive.wait_for_requests(1) == ["b"]


async def test_a_request_that_always_fails_is_given_up_and_takes_no_other_along(
    cluster: FakeCluster,
):
    worker = await cluster.worker()
    await cluster.start_scheduler(max_failures=3)
    worker.poison.add("bad")
    await cluster.enqueue("bad", "good")
    await cluster.queue_empty()
    assert worker.request_ids.count("bad") == 3
    letter = await cluster.dead_letter()
    assert (letter.request_id, letter.reason) == ("bad", DeathReason.FAILED_SUBMISSIONS)
    assert decode_queued_request(letter.payload).request_id == "bad"
    assert "good" in worker.accepted_ids


async def test_requests_of_a_scheduler_that_dies_come_to_another(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1, num_running=1)
    async with cluster.scheduler(ack_wait_s=0.5) as dying:
        await cluster.enqueue("a", "b")
        await eventually(lambda: dying.num_held == 2)
    await cluster.start_scheduler(ack_wait_s=0.5)
    worker.max_requests = 8
    await worker.wait_for_requests(2)
    assert sorted(worker.request_ids) == ["a", "b"]
    await cluster.queue_empty()


async def test_a_scheduler_that_drains_gives_back_what_waits_at_once(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1)
    worker.gate.clear()
    async with cluster.scheduler(ack_wait_s=60) as draining:
        await cluster.enqueue("a", "b")
        await worker.wait_for_requests(1)
        await eventually(lambda: draining.num_held == 2)
        drain = asyncio.create_task(draining.drain(20))
        await eventually(lambda: draining.num_held == 1)
        # What a worker already has is waited for, and acknowledged.
        assert not drain.done()
        worker.gate.set()
        await drain
    assert worker.accepted_ids == ["a"]
    # The broker hears an acknowledgement a moment after it was sent.
    await cluster.queue_holds(1)
    await cluster.start_scheduler(ack_wait_s=60)
    assert await worker.wait_for_requests(2) == ["a", "b"]


async def test_a_drain_ends_in_time_even_if_a_worker_does_not_answer(cluster: FakeCluster):
    worker = await cluster.worker()
    worker.gate.clear()
    async with cluster.scheduler() as draining:
        await cluster.enqueue("a")
        await worker.wait_for_requests(1)
        started_s = time.monotonic()
        await draining.drain(0.1)
    assert time.monotonic() - started_s < 5


async def test_a_held_message_stays_with_its_scheduler_beyond_ack_wait(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1, num_running=1)
    first = await cluster.start_scheduler(ack_wait_s=0.3)
    await cluster.enqueue("a")
    await eventually(lambda: first.num_held == 1)
    second = await cluster.start_scheduler(ack_wait_s=0.3)
    held_until_s = time.monotonic() + 1.0
    await eventually(lambda: time.monotonic() > held_until_s)
    assert await cluster.num_redelivered() == 0
    assert (first.num_held, second.num_held) == (1, 0)
    worker.num_running = 0
    assert await worker.wait_for_requests(1) == ["a"]


async def test_queued_and_held_requests_survive_a_restart_of_the_broker(
    cluster: FakeCluster, nats_server: NatsServer
):
    worker = await cluster.worker(max_requests=1, num_running=1)
    scheduler = await cluster.start_scheduler(num_look_ahead=1, ack_wait_s=1)
    await cluster.enqueue("a", "b", "c")
    await eventually(lambda: scheduler.num_held >= 1)
    await asyncio.to_thread(nats_server.restart)
    await eventually(lambda: scheduler.is_ready and cluster.bus.is_connected)
    worker.max_requests = 8
    await worker.wait_for_requests(3)
    await cluster.queue_empty()
    assert set(worker.request_ids) == {"a", "b", "c"}


async def test_requests_published_after_a_restart_of_the_broker_are_served(
    cluster: FakeCluster, nats_server: NatsServer
):
    worker = await cluster.worker()
    scheduler = await cluster.start_scheduler()
    await asyncio.to_thread(nats_server.restart)
    await eventually(lambda: scheduler.is_ready and cluster.bus.is_connected)
    await cluster.enqueue("a")
    assert await worker.wait_for_requests(1) == ["a"]


async def test_an_acknowledgement_that_was_lost_costs_no_second_submission(
    cluster: FakeCluster, nats_server: NatsServer
):
    worker = await cluster.worker()
    worker.gate.clear()
    scheduler = await cluster.start_scheduler(ack_wait_s=0.5)
    await cluster.enqueue("a")
    await worker.wait_for_requests(1)
    await asyncio.to_thread(nats_server.kill)
    await eventually(lambda: not scheduler.is_ready)
    worker.gate.set()
    await eventually(lambda: scheduler.num_held == 0)
    await asyncio.to_thread(nats_server.start)
    await eventually(lambda: scheduler.is_ready and cluster.bus.is_connected)
    await cluster.queue_empty()
    assert worker.request_ids == ["a"]


@pytest.mark.parametrize("lost", ["consumer", "stream"])
async def test_a_deleted_queue_is_made_again(cluster: FakeCluster, lost: str):
    worker = await cluster.worker()
    scheduler = await cluster.start_scheduler()
    if lost == "consumer":
        await cluster.bus.jetstream.delete_consumer(
            REQUESTS_STREAM, requests_consumer(MODEL, RESUME_BAND)
        )
    else:
        await cluster.bus.jetstream.delete_stream(REQUESTS_STREAM)
    await eventually(lambda: not scheduler.is_ready)
    await eventually(lambda: scheduler.is_ready)
    await cluster.enqueue("a")
    assert await worker.wait_for_requests(1) == ["a"]
