import asyncio

from nats.aio.msg import Msg

from services.runtime.bus import connect_bus
from services.scheduler.fleet.kv_index import KvIndex
from services.wire.kv_events import decode_kv_event
from services.wire.subjects import kv_events_of
from tests.support.nats import NatsServer
from tests.worker.conditions import until
from worker.engine.block_pool import BlockPool, NoRoom, PrefixHit
from worker.reports.kv_events import MAX_CHANGES, KvEventLog
from worker.reports.kv_publisher import KvPublisher

A, B = b"a" * 16, b"b" * 16


def hold(pool: BlockPool, num_blocks: int) -> tuple[int, ...]:
    block_ids = pool.allocate(PrefixHit(), num_blocks)
    assert not isinstance(block_ids, NoRoom)
    return block_ids


def test_a_pool_tells_what_can_be_found_and_what_was_evicted():
    log = KvEventLog("w", epoch=3)
    pool = BlockPool(1, log)
    block_ids = hold(pool, 1)
    pool.remember(block_ids[0], A)
    pool.release(block_ids)
    first = log.take()
    block_ids = hold(pool, 1)
    pool.remember(block_ids[0], B)
    second = log.take()
    assert first is not None
    assert (first.epoch, first.event_idx, first.stored, first.removed) == (3, 1, (A,), ())
    assert second is not None
    assert (second.event_idx, second.stored, second.removed) == (2, (B,), (A,))


def test_nothing_new_is_no_event():
    log = KvEventLog("w", epoch=1)
    assert log.take() is None


def test_a_block_that_changed_twice_is_told_of_by_its_end():
    log = KvEventLog("w", epoch=1)
    log.on_remembered(A)
    log.on_forgotten(A)
    event = log.take()
    assert event is not None
    assert (event.stored, event.removed) == ((), (A,))


def test_the_list_holds_all_and_names_the_last_event():
    log = KvEventLog("w", epoch=1)
    log.on_remembered(A)
    log.take()
    log.on_remembered(B)
    snapshot = log.snapshot()
    assert (snapshot.event_idx, set(snapshot.held)) == (1, {A, B})


def test_a_large_change_is_told_in_several_events():
    log = KvEventLog("w", epoch=1)
    hashes = [idx.to_bytes(16, "big") for idx in range(MAX_CHANGES + 1)]
    for block_hash in hashes:
        log.on_remembered(block_hash)
    events = [log.take(), log.take(), log.take()]
    assert [event and len(event.stored) for event in events] == [MAX_CHANGES, 1, None]


async def test_a_publisher_tells_schedulers_what_changed(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        log, index = KvEventLog("w", epoch=1), KvIndex()

        async def hear(message: Msg) -> None:
            index.apply(decode_kv_event(message.data))

        await bus.client.subscribe(kv_events_of("m"), cb=hear)
        publisher = KvPublisher(log, bus, model="m", worker_id="w")
        running = asyncio.create_task(publisher.run())
        try:
            log.on_remembered(A)
            publisher.poke()
            await until(lambda: index.held_by("w") == {A})
            log.on_forgotten(A)
            log.on_remembered(B)
            publisher.poke()
            await until(lambda: index.held_by("w") == {B})
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
