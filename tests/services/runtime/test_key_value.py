import asyncio

import pytest

from services.core.errors import Conflict
from services.runtime.bus import connect_bus
from services.runtime.key_value import Change, KeyValueBucket
from tests.support.nats import NatsServer


async def test_a_watcher_sees_what_is_there_then_each_change(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        bucket = KeyValueBucket(bus, "b", what="the test store")
        await bucket.put("a", b"1")
        async with asyncio.timeout(10), bucket.watch() as changes:
            assert await anext(changes) == Change("a", b"1")
            assert await anext(changes) is None
            await bucket.put("b", b"2")
            assert await anext(changes) == Change("b", b"2")


async def test_an_empty_bucket_says_so_at_once(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        bucket = KeyValueBucket(bus, "b", what="the test store")
        assert await bucket.entries() == {}
        await bucket.put("a", b"1")
        assert await bucket.entries() == {"a": b"1"}


async def test_keys_are_listed_and_deleted_by_revision(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        bucket = KeyValueBucket(bus, "b", what="the test store")
        revision = await bucket.write("t.a", b"1", revision=0)
        await bucket.put("u.a", b"1")
        assert await bucket.keys("t.*") == ["t.a"]
        with pytest.raises(Conflict):
            await bucket.delete("t.a", revision=revision + 7)
        await bucket.delete("t.a", revision=revision)
        assert await bucket.keys("t.*") == []
        assert await bucket.read("t.a") == (b"", 0)
