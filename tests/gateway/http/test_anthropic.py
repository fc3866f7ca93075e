import json

import httpx
import pytest

from services.core.request import FinishReason
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL

PATH = "/v1/messages"
HI = [{"role": "user", "content": "hi"}]
BODY = {"model": MODEL, "max_tokens": 3, "messages": HI}


def events_of(text: str) -> list[tuple[str, dict]]:
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


async def test_a_whole_message(working: Served, client: httpx.AsyncClient):
    working.cluster.cached_tokens = 1
    system = [{"type": "text", "text": "be", "cache_control": {"type": "ephemeral"}}]
    reply = await client.post(PATH, json=BODY | {"system": system})
    message = reply.json()
    assert reply.status_code == 200
    assert message.pop("id").startswith("msg_")
    assert message == {
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "abc"}],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 1,
            "output_tokens": 3,
        },
    }
    seen = working.cluster.tokenizer.conversations[-1]
    assert [(m.role, m.content) for m in seen] == [("system", "be"), ("user", "hi")]


async def test_a_stream_in_order(working: Served, client: httpx.AsyncClient):
    reply = await client.post(PATH, json=BODY | {"stream": True})
    events = events_of(reply.text)
    assert [name for name, _ in events] == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(data["type"] == name for name, data in events)
    assert events[0][1]["message"]["usage"]["input_tokens"] == 2
    assert "".join(d["delta"]["text"] for n, d in events if n == "content_block_delta") == "abc"
    assert events[-2][1]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_the_stop_sequence_that_ended_it_is_named(
    working: Served, client: httpx.AsyncClient, stream: bool
):
    body = BODY | {"max_tokens": 9, "stop_sequences": ["zz", "cd"], "stream": stream}
    reply = await client.post(PATH, json=body)
    end = events_of(reply.text)[-2][1]["delta"] if stream else reply.json()
    assert (end["stop_reason"], end["stop_sequence"]) == ("stop_sequence", "cd")


async def test_the_model_s_own_end_is_the_end_of_the_turn(
    working: Served, client: httpx.AsyncClient
):
    working.cluster.finish = FinishReason.STOP
    assert (await client.post(PATH, json=BODY)).json()["stop_reason"] == "end_turn"


async def test_tokens_are_counted_without_an_answer(served: Served, client: httpx.AsyncClient):
    body = {"model": MODEL, "messages": HI, "system": "be"}
    reply = await client.post(f"{PATH}/count_tokens", json=body)
    assert reply.json() == {"input_tokens": 4}
    assert served.cluster.queue.message_ids == []


@pytest.mark.parametrize(
    ("changes", "status", "kind", "word"),
    [
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"),
        ({"messages": []}, 400, "invalid_request_error", "messages"),
        ({"messages": [{"role": "system", "content": "a"}]}, 400, "invalid_request_error", "role"),
        ({"temperature": 1.5}, 400, "invalid_request_error", "temperature"),
        ({"tools": [{"name": "a"}]}, 400, "invalid_request_error", "tools"),
        ({"thinking": {"type": "enabled"}}, 400, "invalid_request_error", "thinking"),
        ({"stop_sequences": [""]}, 400, "invalid_request_error", "stop_sequences"),
        (
            {"messages": [*HI, {"role": "assistant", "content": "I"}]},
            400,
            "invalid_request_error",
            "messages[1].role",
        ),
        ({"wings": 2}, 400, "invalid_request_error", "wings"),
        ({"model": "x"}, 404, "not_found_error", "x"),
    ],
)
async def test_errors_are_said_as_anthropic_says_them(
    served: Served,
    client: httpx.AsyncClient,
    changes: dict[str, object],
    status: int,
    kind: str,
    word: str,
):
    reply = await client.post(PATH, json=BODY | changes)
    body = reply.json()
    assert (reply.status_code, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert word in body["error"]["message"]
