from services.runtime.bounded_bucket import BoundedBucket
from services.runtime.bus import Bus, connect_bus
from tests.support.nats import NatsServer


def open_bucket(bus: Bus, *, max_bytes: int) -> BoundedBucket:
    return BoundedBucket(
        bus, "b", what="the test cache", ttl_s=60, max_bytes=max_bytes, num_replicas=1
    )


async def test_the_oldest_entries_make_room(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        bucket = open_bucket(bus, max_bytes=64 << 10)
        for idx in range(20):
            await bucket.put(f"k{idx}", bytes(8 << 10))
        assert await bucket.read("k0") == (b"", 0)
        assert len((await bucket.read("k19"))[0]) == 8 << 10


async def test_a_bucket_that_stands_takes_a_new_size(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        await open_bucket(bus, max_bytes=1 << 20).put("a", b"1")
        other = open_bucket(bus, max_bytes=64 << 10)
        assert (await other.read("a"))[0] == b"1"
        info = await bus.jetstream.stream_info("KV_b")
        assert info.config.max_bytes == 64 << 10
