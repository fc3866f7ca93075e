import openai
import pytest

from services.core.errors import Overloaded
from services.core.request import FinishReason
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL, fake_worker

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def client(served: Served):
    async with openai.AsyncOpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=10
    ) as client:
        yield client


async def test_chat(working: Served, client):
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=3)
    assert reply.choices[0].message.content == "abc"
    assert reply.usage.total_tokens == 5
    assert reply.usage.prompt_tokens_details.cached_tokens == 0
    assert reply._request_id.startswith("req-")


async def test_chat_stream(working: Served, client):
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "abc"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 3


async def test_an_answer_can_be_sent_back_as_history(working: Served, client):
    reply = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    history = [*MESSAGES, reply.choices[0].message.model_dump(), *MESSAGES]
    again = await client.chat.completions.create(model=MODEL, messages=history, max_tokens=1)
    assert again.choices[0].message.content == "a"


async def test_completion_and_its_stream(working: Served, client):
    reply = await client.completions.create(model=MODEL, prompt="a", max_tokens=2)
    assert reply.choices[0].text == "ab"
    stream = await client.completions.create(model=MODEL, prompt="a", max_tokens=2, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "ab"


async def test_models(served: Served, client):
    assert [model.id async for model in client.models.list()] == [MODEL]
    assert (await client.models.retrieve(MODEL)).owned_by == "tokenmill"


async def test_errors_are_the_classes_that_users_catch(served: Served, client):
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="x", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=-1)
    assert bad.value.param == "temperature"
    served.cluster.queue.error = Overloaded("full", reason="QUEUE_FULL")
    with pytest.raises(openai.InternalServerError) as full:
        await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert full.value.status_code == 503
    assert int(full.value.response.headers["retry-after"]) >= 1


async def test_an_error_in_the_stream_is_raised(served: Served, client):
    import asyncio

    asked = asyncio.ensure_future(
        client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    )
    request = await served.cluster.queue.next_attempt()
    async with fake_worker(served.grpc_target) as worker:
        await worker.attach(request.request_id, 1)
        await worker.deliver(1, 0, [0])
        stream = await asked
        await worker.deliver(1, 1, [], FinishReason.ERROR, error_message="out of memory")
        with pytest.raises(openai.APIError, match="out of memory"):
            async for _ in stream:
                pass
