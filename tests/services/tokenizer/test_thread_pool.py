import asyncio
import threading

import pytest

from services.core.errors import Overloaded
from services.tokenizer.thread_pool import BoundedThreadPool


@pytest.fixture
def pool():
    pool = BoundedThreadPool(num_threads=1, max_pending=2)
    yield pool
    pool.close()


async def test_the_result_comes_back(pool):
    assert await pool.run(lambda: 42) == 42


async def test_an_error_comes_back(pool):
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 // 0)


async def test_more_than_may_wait_is_refused_with_a_time(pool):
    go_on = threading.Event()
    tasks = [asyncio.create_task(pool.run(go_on.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await pool.run(lambda: 1)
    assert caught.value.retry_after_s
    go_on.set()
    await asyncio.gather(*tasks)
    assert await pool.run(lambda: 1) == 1


async def test_work_that_runs_keeps_its_place_when_its_caller_leaves(pool):
    started, go_on = threading.Event(), threading.Event()

    def work():
        started.set()
        go_on.wait()

    tasks = [asyncio.create_task(pool.run(work)) for _ in range(2)]
    await asyncio.to_thread(started.wait)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # The waiting one freed its place, the running one did not.
    last = asyncio.create_task(pool.run(lambda: 7))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await pool.run(lambda: 1)
    go_on.set()
    assert await last == 7
