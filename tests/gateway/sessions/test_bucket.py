import pytest

from gateway.sessions.bucket import SessionBucket
from services.core.errors import Conflict, DependencyLost
from services.runtime.bus import connect_bus
from tests.support.nats import NatsServer


@pytest.fixture
async def bucket(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        yield SessionBucket(bus, ttl_s=60, num_replicas=1)


async def test_a_key_that_does_not_exist_is_empty_at_revision_0(bucket: SessionBucket):
    assert await bucket.read("default.none") == (b"", 0)


async def test_a_written_value_is_read_with_its_revision(bucket: SessionBucket):
    revision = await bucket.write("default.a=3A", b"one", revision=0)
    assert await bucket.read("default.a=3A") == (b"one", revision)


async def test_a_write_with_an_old_revision_is_a_conflict(bucket: SessionBucket):
    first = await bucket.write("default.s", b"one", revision=0)
    await bucket.write("default.s", b"two", revision=first)
    for revision in (0, first):
        with pytest.raises(Conflict):
            await bucket.write("default.s", b"three", revision=revision)


async def test_values_survive_a_restart_of_the_broker(
    bucket: SessionBucket, nats_server: NatsServer
):
    await bucket.write("default.s", b"one", revision=0)
    nats_server.stop()
    with pytest.raises(DependencyLost):
        await bucket.read("default.s")
    nats_server.start()
    while True:
        try:
            value, _ = await bucket.read("default.s")
            break
        except DependencyLost:
            continue
    assert value == b"one"
