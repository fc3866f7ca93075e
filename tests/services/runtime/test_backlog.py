import asyncio

from services.runtime.backlog import Backlog


async def test_what_is_too_much_is_not_taken_until_earlier_work_is_done():
    backlog: Backlog[str] = Backlog(10)
    done: list[str] = []
    gate = asyncio.Event()

    async def work(item: str) -> None:
        await gate.wait()
        done.append(item)

    assert backlog.add("a", 6)
    assert not backlog.has_room(5)
    assert not backlog.add("b", 5)
    assert backlog.add("c", 4)
    running = asyncio.create_task(backlog.run(work))
    assert not await backlog.flush(0.01)
    # What is being worked on takes its room until it is done.
    assert not backlog.has_room(1)
    gate.set()
    assert await backlog.flush(5)
    assert done == ["a", "c"]
    assert backlog.has_room(10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_nothing_to_do_is_done():
    assert await Backlog[str](1).flush(0)
