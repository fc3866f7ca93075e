import json
from typing import Any

import httpx
import pytest

from services.core.request import FinishReason
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL

MESSAGES = [{"role": "user", "content": "hi"}]


def events_of(reply: httpx.Response) -> list[Any]:
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in reply.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


async def test_chat_completion_is_whole(working: Served, client):
    working.cluster.cached_tokens = 1
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 3}
    reply = (await client.post("/v1/chat/completions", json=body)).json()
    assert reply["object"] == "chat.completion"
    assert reply["model"] == MODEL
    choice = reply["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "abc", "refusal": None}
    assert choice["finish_reason"] == "length"
    assert reply["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 3,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
    }


async def test_chat_stream_is_role_deltas_finish_usage_done(working: Served, client):
    body = {
        "messages": MESSAGES,
        "max_completion_tokens": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chunks = events_of(await client.post("/v1/chat/completions", json=body))
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:-2]]
    assert "".join(delta["content"] for delta in deltas) == "abc"
    assert chunks[-2]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "length",
    }
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_chat_stream_without_usage_has_no_usage(working: Served, client):
    body = {"messages": MESSAGES, "max_tokens": 2, "stream": True}
    chunks = events_of(await client.post("/v1/chat/completions", json=body))
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_so_far_is_told_in_each_chunk_on_request(working: Served, client):
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": "ab", "max_tokens": 3, "stream": True, "stream_options": options}
    reply = await client.post("/v1/completions", json=body)
    events = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    used = [json.loads(event)["usage"] for event in events]
    counts = [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in used]
    assert counts[0] == (2, 1)
    assert counts == sorted(counts)
    assert counts[-1] == (2, 3)


async def test_token_ids_are_returned_on_request(working: Served, client):
    body = {"messages": MESSAGES, "max_tokens": 3, "stream": True, "return_token_ids": True}
    chunks = events_of(await client.post("/v1/chat/completions", json=body))
    ids = [i for chunk in chunks for i in chunk["choices"][0].get("token_ids", [])]
    assert ids == [0, 1, 2]


@pytest.mark.parametrize("prompt", ["abc", ["abc"], [0, 1, 2]])
async def test_completion_takes_text_or_ids(working: Served, client, prompt):
    body = {"prompt": prompt, "max_tokens": 2}
    reply = (await client.post("/v1/completions", json=body)).json()
    assert reply["object"] == "text_completion"
    assert reply["choices"][0]["text"] == "ab"
    assert reply["usage"]["prompt_tokens"] == 3


async def test_completion_without_limit_takes_the_public_default(working: Served, client):
    reply = (await client.post("/v1/completions", json={"prompt": "a"})).json()
    assert reply["usage"]["completion_tokens"] == 16


async def test_completion_streams(working: Served, client):
    body = {"prompt": "a", "max_tokens": 3, "stream": True}
    chunks = events_of(await client.post("/v1/completions", json=body))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "abc"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_generate_streams_unless_told_not_to(working: Served, client):
    body = {"prompt": "a", "max_tokens": 3}
    events = events_of(await client.post("/api/v1/inference/generate", json=body))
    assert "".join(event["text"] for event in events) == "abc"
    assert events[-1]["finish_reason"] == "length"
    assert events[-1]["usage"]["completion_tokens"] == 3
    whole = await client.post("/api/v1/inference/generate", json=body | {"stream": False})
    assert whole.json()["text"] == "abc"


async def test_generate_takes_messages(working: Served, client):
    body = {"messages": MESSAGES, "max_tokens": 1, "stream": False}
    assert (await client.post("/api/v1/inference/generate", json=body)).json()["text"] == "a"
    assert working.cluster.tokenizer.conversations


async def test_developer_messages_and_text_parts_reach_the_template(working: Served, client):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    body = {"messages": messages, "max_tokens": 1}
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
    seen = working.cluster.tokenizer.conversations[-1]
    assert [(m.role, m.content) for m in seen] == [("system", "be brief"), ("user", "ab")]


async def test_tokens_of_one_step_come_in_one_event(working: Served, client):
    working.cluster.script = lambda _: [[0, 1, 2, 3]]
    working.cluster.finish = FinishReason.STOP
    body = {"prompt": "a", "max_tokens": 9}
    events = events_of(await client.post("/api/v1/inference/generate", json=body))
    assert [event["text"] for event in events] == ["abcd"]


async def test_request_id_is_echoed(working: Served, client):
    body = {"prompt": "a", "max_tokens": 1}
    headers = {"x-request-id": "mine"}
    for _ in range(2):
        reply = await client.post("/v1/completions", json=body, headers=headers)
        assert reply.headers["x-request-id"] == "mine"
        assert reply.status_code == 200
    assert (await client.get("/livez")).headers["x-request-id"].startswith("req-")
