import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL

PATH = "/v1/responses"


@pytest.fixture
async def sdk(served: Served) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=10
    ) as client:
        yield client


async def test_a_whole_response_is_what_the_sdk_reads(working: Served, sdk: Any):
    response = await sdk.responses.create(
        model=MODEL, input="abc", instructions="be", max_output_tokens=4, metadata={"a": "b"}
    )
    assert response.output_text == "abcd"
    assert (response.status, response.incomplete_details) != ("completed", None)
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (5, 4)
    assert response.metadata == {"a": "b"}
    seen = working.cluster.tokenizer.conversations[-1]
    assert [(m.role, m.content) for m in seen] == [("system", "be"), ("user", "abc")]


async def test_a_stream_s_events_are_typed_numbered_and_end_whole(working: Served, sdk: Any):
    stream = await sdk.responses.create(model=MODEL, input="a", max_output_tokens=3, stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "abc"
    assert events[-1].response.output_text == "abc"


async def test_a_response_is_kept_continued_and_deleted(working: Served, sdk: Any):
    first = await sdk.responses.create(model=MODEL, input="one", max_output_tokens=2)
    assert await sdk.responses.retrieve(first.id) == first
    second = await sdk.responses.create(
        model=MODEL, input="two", previous_response_id=first.id, max_output_tokens=2
    )
    seen = working.cluster.tokenizer.conversations[-1]
    assert [m.content for m in seen] == ["one", "ab", "two"]
    asked = await sdk.responses.input_items.list(second.id, order="asc")
    assert [item.role for item in asked.data] == ["user", "assistant", "user"]
    assert [item.content[0].text for item in asked.data] == ["one", "ab", "two"]
    pages = [item async for item in sdk.responses.input_items.list(second.id, limit=1)]
    assert [item.content[0].text for item in pages] == ["two", "ab", "one"]
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.responses.retrieve(first.id, stream=True)
    assert caught.value.param == "stream"
    await sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.create(model=MODEL, input="x", previous_response_id=first.id)


async def test_a_response_that_is_not_to_be_kept_is_not(working: Served, sdk: Any):
    response = await sdk.responses.create(
        model=MODEL, input="one", max_output_tokens=2, store=False
    )
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(response.id)


async def until_over(sdk: Any, response_id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            response = await sdk.responses.retrieve(response_id)
            if response.status not in ("queued", "in_progress"):
                return response
            await asyncio.sleep(0.02)


async def test_a_background_response_is_answered_with_nobody_waiting(working: Served, sdk: Any):
    response = await sdk.responses.create(
        model=MODEL, input="one", max_output_tokens=2, background=True
    )
    assert response.status == "queued"
    assert (await until_over(sdk, response.id)).output_text == "ab"


async def test_a_background_response_can_be_cancelled(served: Served, sdk: Any):
    response = await sdk.responses.create(model=MODEL, input="one", background=True)
    request = await served.cluster.queue.next_attempt()
    assert (await sdk.responses.cancel(response.id)).status == "cancelled"
    async with asyncio.timeout(20):
        assert await served.cluster.queue.cancelled.get() == request.request_id
    assert (await sdk.responses.cancel(response.id)).status == "cancelled"


async def test_a_response_that_somebody_waits_for_cannot_be_cancelled(working: Served, sdk: Any):
    response = await sdk.responses.create(model=MODEL, input="one", max_output_tokens=2)
    with pytest.raises(openai.BadRequestError):
        await sdk.responses.cancel(response.id)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "function_call"}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, None),
        ({"input": "a", "tools": [{"type": "web_search"}]}, "tools"),
        ({"input": "a", "truncation": "auto"}, "truncation"),
        ({"input": "a", "reasoning": {"effort": "high"}}, "reasoning"),
        ({"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "a", "wings": 2}, "wings"),
        ({"input": "a", "background": True, "store": False}, "background"),
        ({"input": "a", "background": True, "stream": True}, "stream"),
        ({"input": "a", "model": "x"}, "model"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": "a", "previous_response_id": ""}, "previous_response_id"),
        ({"input": [{"role": "user", "content": "a", "wings": 2}]}, "input[0].wings"),
    ],
)
async def test_bad_input_names_its_field(
    served: Served, client: httpx.AsyncClient, body: dict[str, object], field: str | None
):
    reply = await client.post(PATH, json=body)
    assert reply.status_code in (400, 404)
    assert reply.json()["error"]["param"] == (field or "input[0].content[0].type")
