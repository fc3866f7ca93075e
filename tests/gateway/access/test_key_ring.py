import asyncio
from collections.abc import Callable

from gateway.access.key_ring import KeyRing
from services.cli.keys.key_store import KeyStore, KeyWish
from services.core.caller import Limits
from services.core.errors import DependencyLost
from services.runtime.bus import connect_bus
from services.runtime.key_value import KeyValueBucket
from services.wire.subjects import ACCESS_BUCKET
from tests.support.nats import NatsServer


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def state_of(ring: KeyRing, key_id: str) -> str | None:
    key = ring.find(key_id)
    return key and key.state(2**31)


async def test_rings_follow_what_the_command_line_changes(nats_server: NatsServer):
    """Made, revoked, rotated, limited; the broker restarts in between."""
    async with (
        connect_bus(nats_server.url, name="one") as one,
        connect_bus(nats_server.url, name="two") as two,
    ):
        store = KeyStore(KeyValueBucket(one, ACCESS_BUCKET, what="the key store"))
        early = (await store.create(KeyWish("early"))).key.key_id
        rings = [KeyRing(), KeyRing()]
        following = [
            asyncio.create_task(ring.follow(KeyValueBucket(bus, ACCESS_BUCKET, what="keys")))
            for ring, bus in zip(rings, (one, two), strict=True)
        ]
        for ring in rings:
            await until(lambda ring=ring: ring.is_loaded)
            assert state_of(ring, early) == "active"
        late = (await store.create(KeyWish("late"))).key.key_id
        await store.revoke(early)
        await store.limit_tenant("t x", Limits(requests_per_min=3))
        for ring in rings:
            await until(lambda ring=ring: state_of(ring, late) == "active")
            await until(lambda ring=ring: state_of(ring, early) == "revoked")
            await until(lambda ring=ring: ring.limits_of("t x").requests_per_min == 3)
        nats_server.restart()
        while True:
            try:
                await store.keys()
                break
            except DependencyLost:
                continue
        made = await store.rotate(late, grace_s=0)
        for ring in rings:
            await until(lambda ring=ring: state_of(ring, made.key.key_id) == "active")
            await until(lambda ring=ring: state_of(ring, late) == "expired")
        assert {key.key_id for key in await store.keys()} == {early, late, made.key.key_id}
        for task in following:
            task.cancel()
