import asyncio
import socket

import pytest

from services.core.errors import DependencyLost, InvalidRequest, Overloaded, QuotaExceeded
from services.core.request import ChatMessage
from tests.tokenmill_client.conftest import FIRST, LAST, FakeGateway
from tokenmill_client import AsyncClient, Client, FinishReason, Retries, SamplingParams, Usage

QUICK = Retries(first_pause_s=0.001)


async def test_async_answer_is_joined_from_its_parts(fake_gateway: FakeGateway):
    fake_gateway.scripts = [[FIRST, LAST]]
    async with AsyncClient(fake_gateway.target, api_key="tm-key") as client:
        answer = await client.generate("abc", sampling=SamplingParams(max_tokens=2), model="m")
    assert (answer.text, answer.finish_reason) == ("Hello", FinishReason.STOP)
    assert answer.usage == Usage(3, 2)
    assert answer.choices[0].token_ids == (1, 2)
    call = fake_gateway.calls[0]
    assert (call.prompt, call.model, call.sampling.max_tokens) == ("abc", "m", 2)
    assert fake_gateway.metadata[0]["authorization"] == "Bearer tm-key"


async def test_client_without_asyncio_streams_and_keeps_a_session(fake_gateway: FakeGateway):
    fake_gateway.scripts = [[FIRST, LAST], [FIRST, LAST]]

    def use() -> tuple[list[str], str]:
        with Client(fake_gateway.target) as client:
            texts = [part.text for part in client.stream_chat([ChatMessage("user", "Hi")])]
            session = client.session()
            session.ask("My name is Ada.")
            return texts, session.session_id

    texts, session_id = await asyncio.to_thread(use)
    assert texts == ["Hel", "lo"]
    assert [call.session_id for call in fake_gateway.calls] == ["", session_id]
    assert fake_gateway.calls[1].messages == (ChatMessage("user", "My name is Ada."),)


@pytest.mark.parametrize("error", [Overloaded("full"), DependencyLost("gone")])
async def test_refusal_for_now_is_tried_again(fake_gateway: FakeGateway, error):
    fake_gateway.scripts = [[error], [error], [FIRST, LAST]]
    async with AsyncClient(fake_gateway.target, retries=QUICK) as client:
        assert (await client.chat("Hi")).text == "Hello"
    assert len(fake_gateway.calls) == 3


async def test_nothing_is_tried_again_after_the_first_part(fake_gateway: FakeGateway):
    fake_gateway.scripts = [[FIRST, Overloaded("shut down")], [FIRST, LAST]]
    async with AsyncClient(fake_gateway.target, retries=QUICK) as client:
        parts = client.stream_chat("Hi")
        assert (await anext(parts)).text == "Hel"
        with pytest.raises(Overloaded):
            await anext(parts)
    assert len(fake_gateway.calls) == 1


async def test_what_no_waiting_mends_is_not_tried_again(fake_gateway: FakeGateway):
    fake_gateway.scripts = [[InvalidRequest("bad", field="model")]]
    async with AsyncClient(fake_gateway.target, retries=QUICK) as client:
        with pytest.raises(InvalidRequest) as caught:
            await client.chat("Hi")
    assert caught.value.field == "model"


async def test_longer_wait_than_the_client_s_patience_is_the_caller_s_to_decide(
    fake_gateway: FakeGateway,
):
    fake_gateway.scripts = [[QuotaExceeded("over", retry_after_s=50)]]
    async with AsyncClient(fake_gateway.target, retries=QUICK) as client:
        with pytest.raises(QuotaExceeded) as caught:
            await client.chat("Hi")
    assert caught.value.retry_after_s == 50


async def test_turn_behind_a_lost_dependency_is_not_asked_twice(fake_gateway: FakeGateway):
    fake_gateway.scripts = [[Overloaded("full")], [DependencyLost("gone")], [FIRST, LAST]]
    async with AsyncClient(fake_gateway.target, retries=QUICK) as client:
        with pytest.raises(DependencyLost):
            await client.session("mine").ask("Hi")
    assert len(fake_gateway.calls) == 2


async def test_nobody_there_is_said_after_the_retries():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{free.getsockname()[1]}"
    retries = Retries(max_retries=1, first_pause_s=0.001)
    async with AsyncClient(target, retries=retries, timeout_s=5) as client:
        with pytest.raises(DependencyLost):
            await client.models()
