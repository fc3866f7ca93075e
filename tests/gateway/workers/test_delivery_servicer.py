import asyncio
from dataclasses import replace

import grpc
import httpx
import pytest

from services.core.delivery import Attach, Attached, Cancel, Gone
from services.core.request import FinishReason, RequestClass
from services.wire.subjects import RESUME_BAND, lane_notice_subject, lane_of, requests_subject
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL, fake_worker

BODY = {"prompt": "abc", "max_tokens": 4, "return_token_ids": True}


def ask(client: httpx.AsyncClient, **fields: object) -> asyncio.Task[httpx.Response]:
    return asyncio.ensure_future(client.post("/v1/completions", json=BODY | fields))


async def until(condition, timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def token_ids(reply: httpx.Response) -> list[int]:
    return reply.json()["choices"][0]["token_ids"]


async def test_queued_request_carries_what_a_worker_needs(served: Served, client):
    asked = ask(client, priority="batch")
    request = await served.cluster.queue.next_attempt()
    assert request.attempt == 1
    assert request.prompt_token_ids == (0, 1, 2)
    assert request.reply_to == served.grpc_target
    assert request.tenant == "default"
    assert request.sampling.seed is not None
    lane = lane_of(RequestClass.BATCH, 1, "default")
    assert served.cluster.queue.subjects[0] == requests_subject(MODEL, lane)
    # Schedulers hear of the lane before its first request is there.
    assert served.cluster.queue.notices == [lane_notice_subject(MODEL, lane)]
    asked.cancel()


async def test_a_lost_worker_is_followed_by_one_that_goes_on(served: Served, client):
    asked = ask(client)
    request = await served.cluster.queue.next_attempt()
    async with fake_worker(served.grpc_target, "w1") as worker:
        assert await worker.attach(request.request_id, 1) == Attached(1, ())
        await worker.deliver(1, 0, [5, 6])
        await until(lambda: served.gateway.live_requests.all()[0].token_ids == [5, 6])
        worker.die()
    following = await served.cluster.queue.next_attempt()
    assert following == replace(request, attempt=2)
    assert served.cluster.queue.subjects[-1].endswith(f".{RESUME_BAND}")
    assert len(set(served.cluster.queue.message_ids)) == 2
    async with fake_worker(served.grpc_target, "w2") as worker:
        assert await worker.attach(request.request_id, 2) == Attached(1, (5, 6))
        await worker.deliver(1, 2, [7, 8], FinishReason.LENGTH)
        assert token_ids(await asked) == [5, 6, 7, 8]


async def test_a_worker_that_breaks_the_order_is_cancelled_and_replaced(served: Served, client):
    asked = ask(client)
    request = await served.cluster.queue.next_attempt()
    async with fake_worker(served.grpc_target) as worker:
        await worker.attach(request.request_id, 1)
        await worker.deliver(1, 1, [5])
        assert await worker.read() == Cancel(1)
    assert (await served.cluster.queue.next_attempt()).attempt == 2
    asked.cancel()


async def test_two_workers_never_both_deliver(served: Served, client):
    asked = ask(client)
    request = await served.cluster.queue.next_attempt()
    async with (
        fake_worker(served.grpc_target, "w1") as first,
        fake_worker(served.grpc_target, "w2") as second,
    ):
        assert isinstance(await first.attach(request.request_id, 1), Attached)
        assert isinstance(await second.attach(request.request_id, 1), Gone)
        await second.deliver(1, 0, [9, 9, 9, 9], FinishReason.LENGTH)
        await first.deliver(1, 0, [1, 2, 3, 4], FinishReason.LENGTH)
        assert token_ids(await asked) == [1, 2, 3, 4]


async def test_an_unknown_request_is_gone(served: Served):
    async with fake_worker(served.grpc_target) as worker:
        assert isinstance(await worker.attach("nobody", 1), Gone)


async def test_a_client_that_leaves_while_running_cancels_at_the_worker(served: Served, client):
    asked = ask(client, stream=True)
    request = await served.cluster.queue.next_attempt()
    async with fake_worker(served.grpc_target) as worker:
        await worker.attach(request.request_id, 1)
        await worker.deliver(1, 0, [5])
        asked.cancel()
        assert await worker.read() == Cancel(1)
        await until(lambda: len(served.gateway.live_requests) == 0)
        assert isinstance(await worker.attach(request.request_id, 1), Gone)


async def test_a_client_that_leaves_while_queued_is_told_to_schedulers(served: Served, client):
    asked = ask(client)
    request = await served.cluster.queue.next_attempt()
    asked.cancel()
    async with asyncio.timeout(5):
        assert await served.cluster.queue.cancelled.get() == request.request_id


async def test_a_stop_string_cancels_at_the_worker(served: Served, client):
    asked = ask(client, stop="cd", max_tokens=100)
    request = await served.cluster.queue.next_attempt()
    async with fake_worker(served.grpc_target) as worker:
        await worker.attach(request.request_id, 1)
        await worker.deliver(1, 0, [0, 1, 2, 3, 4])
        assert await worker.read() == Cancel(1)
    choice = (await asked).json()["choices"][0]
    assert choice["text"] == "ab"
    assert choice["finish_reason"] == "stop"
    assert (await asked).json()["usage"]["completion_tokens"] == 4


async def test_an_engine_error_is_an_error_of_the_answer(served: Served, client):
    asked = ask(client)
    request = await served.cluster.queue.next_attempt()
    async with fake_worker(served.grpc_target) as worker:
        await worker.attach(request.request_id, 1)
        await worker.deliver(1, 0, [], FinishReason.ERROR, error_message="out of memory")
        reply = await asked
    assert reply.status_code == 500
    assert reply.json()["error"]["message"] == "out of memory"


async def test_a_worker_that_sends_no_hello_is_refused(served: Served):
    async with fake_worker(served.grpc_target, "") as worker:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class TestSlowWorker:
    @pytest.fixture
    def settings(self, settings):
        return settings.model_copy(update={"max_worker_messages": 16})

    async def test_a_worker_that_does_not_read_is_dropped(self, served: Served, client):
        asked = ask(client)
        request = await served.cluster.queue.next_attempt()
        # Replies name the worker, so a long name fills the connection's window soon.
        async with fake_worker(served.grpc_target, "w" * 8000) as worker:
            await worker.attach(request.request_id, 1)

            async def flood() -> None:
                for handle in range(2, 100_000):
                    await worker.write(Attach(handle, request.request_id, 1))

            async def read_to_the_end() -> None:
                while await worker.read() is not None:
                    pass

            flooding = asyncio.ensure_future(flood())
            assert (await served.cluster.queue.next_attempt()).attempt == 2
            with pytest.raises(grpc.aio.AioRpcError):
                await read_to_the_end()
            await asyncio.gather(flooding, return_exceptions=True)
        asked.cancel()
