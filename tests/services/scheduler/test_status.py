"""What schedulers and the queue command say of the queue."""

import time

from nats.aio.msg import Msg

from services.cli.queue import QueueReading
from services.core.queue_status import QueueView
from services.wire.queue_status import decode_queue_status
from services.wire.subjects import queue_status_subject
from tests.services.scheduler.fake_cluster import FakeCluster, eventually
from tests.services.scheduler.requests import LANE, MODEL


async def test_schedulers_tell_how_the_queue_stands(cluster: FakeCluster):
    view = QueueView()

    async def hear(message: Msg) -> None:
        view.hear(decode_queue_status(message.data), time.monotonic())

    await cluster.bus.client.subscribe(queue_status_subject(MODEL), cb=hear)
    worker = await cluster.worker(max_requests=1, keeps_requests=True)
    await cluster.start_scheduler(instance_id="s1")
    await cluster.enqueue(*(str(idx) for idx in range(30)))

    def is_told() -> bool:
        told = view.statuses(time.monotonic())
        return bool(told) and told[-1].depths == {LANE: 29}

    await eventually(is_told)
    told = view.statuses(time.monotonic())[-1]
    assert told.bands["interactive"].num_held >= 1
    assert told.num_workers == 1
    assert told.desired_workers > 1
    assert len(worker.request_ids) == 1


async def test_the_queue_command_reads_what_waits(cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1, keeps_requests=True)
    await cluster.start_scheduler()
    await cluster.enqueue(*(str(idx) for idx in range(5)))
    await worker.wait_for_requests(1)
    await cluster.queue_holds(4)
    reading = QueueReading(cluster.bus)
    await reading.listen()

    async def is_read() -> bool:
        rows = {row.request_class: row for row in await reading.rows()}
        row = rows.get("interactive")
        return row is not None and row.drain_per_s > 0 and row.depth == 4 and row.in_flight == 4

    await eventually(is_read)
    assert {row.model for row in await reading.rows()} == {MODEL}
