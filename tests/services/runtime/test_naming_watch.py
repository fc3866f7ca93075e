import asyncio
from collections.abc import Callable

from services.cli.cache.public_prompts import publish, rotate_secret, withdraw
from services.core.block_names import BlockNaming
from services.runtime.bus import connect_bus
from services.runtime.naming_watch import NamingWatch, naming_bucket
from services.wire.block_naming import SECRET_ENTRY, PublicPrompt, public_entry
from tests.support.nats import NatsServer


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


async def test_all_processes_name_blocks_alike_whatever_changes(nats_server: NatsServer):
    """Begun at once, a secret rotated, prompts published and withdrawn, an entry spoiled."""
    heard: list[list[BlockNaming]] = [[], []]
    async with (
        connect_bus(nats_server.url, name="one") as one,
        connect_bus(nats_server.url, name="two") as two,
    ):
        watches = [
            NamingWatch(naming_bucket(bus), "m", namings.append)
            for bus, namings in zip((one, two), heard, strict=True)
        ]
        # Before they know, they share with nobody.
        assert heard[0][0].secret != heard[1][0].secret
        following = [asyncio.create_task(watch.follow()) for watch in watches]
        for watch in watches:
            await watch.known(20)
        first = heard[0][-1]
        assert heard[1][-1] == first
        assert len(first.secret) == 32

        await publish(one, PublicPrompt("p", "m", (1, 2, 3)))
        await publish(one, PublicPrompt("q", "another model", (4, 5)))
        for namings in heard:
            await until(lambda namings=namings: namings[-1].public_prompts == ((1, 2, 3),))
        await naming_bucket(one).put(public_entry("spoiled"), b"{")
        await rotate_secret(two)
        for namings in heard:
            await until(lambda namings=namings: namings[-1].secret != first.secret)
        assert heard[0][-1] == heard[1][-1]
        assert heard[0][-1].public_prompts == ((1, 2, 3),)

        # No secret of a wrong length is taken.
        right = heard[0][-1]
        await naming_bucket(one).put(SECRET_ENTRY, b"")
        await withdraw(one, "p")
        await naming_bucket(one).put(SECRET_ENTRY, right.secret)
        for namings in heard:
            await until(lambda namings=namings: namings[-1].public_prompts == ())
            assert namings[-1].secret == right.secret
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def test_a_process_that_never_reaches_the_broker_has_a_secret_of_its_own(
    nats_server: NatsServer,
):
    heard: list[BlockNaming] = []
    async with connect_bus(nats_server.url, name="one") as bus:
        await NamingWatch(naming_bucket(bus), "m", heard.append).known(0.01)
    assert [len(naming.secret) for naming in heard] == [32]
    assert heard[0].secret.hex() not in repr(heard[0])
