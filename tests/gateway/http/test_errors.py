import asyncio
import json

import httpx
import pytest

from services.core.errors import DependencyLost, Overloaded
from services.core.request import FinishReason
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MAX_MODEL_LEN, fake_worker

HI = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
NATIVE = "/api/v1/inference/generate"


BAD_INPUT = [
    (CHAT, {}, "messages"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": "hi"}, "messages"),
    (CHAT, {"messages": [{"role": 1, "content": "x"}]}, "messages[0].role"),
    (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": "unanswerable"}]}, "messages"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0].type",
    ),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "wings": 2}]}]},
        "messages[0].content[0].wings",
    ),
    (CHAT, {"messages": HI, "temperature": -1}, "temperature"),
    (CHAT, {"messages": HI, "temperature": "hot"}, "temperature"),
    (CHAT, {"messages": HI, "top_p": -0.1}, "top_p"),
    (CHAT, {"messages": HI, "max_tokens": 0}, "max_tokens"),
    (CHAT, {"messages": HI, "max_tokens": 10**12}, "max_tokens"),
    (
        CHAT,
        {"messages": HI, "max_tokens": 1, "max_completion_tokens": 2},
        "max_completion_tokens",
    ),
    (CHAT, {"messages": HI, "max_completion_tokens": 0}, "max_completion_tokens"),
    (CHAT, {"messages": HI, "max_completion_tokens": 10**12}, "max_completion_tokens"),
    (CHAT, {"messages": HI, "seed": 2**63}, "seed"),
    (CHAT, {"messages": HI, "stop": [""]}, "stop"),
    (CHAT, {"messages": HI, "stop": 1}, "stop"),
    (CHAT, {"messages": HI, "stop_token_ids": [99]}, "stop_token_ids"),
    (CHAT, {"messages": HI, "priority": "now"}, "priority"),
    (CHAT, {"messages": HI, "n": 0}, "n"),
    (CHAT, {"messages": HI, "n": 129}, "n"),
    (CHAT, {"messages": HI, "n": True}, "n"),
    (CHAT, {"messages": HI, "logprobs": 2}, "logprobs"),
    (CHAT, {"messages": HI, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (CHAT, {"messages": HI, "top_logprobs": 2}, "top_logprobs"),
    (CHAT, {"messages": HI, "presence_penalty": 2.1}, "presence_penalty"),
    (CHAT, {"messages": HI, "frequency_penalty": -3}, "frequency_penalty"),
    (CHAT, {"messages": HI, "repetition_penalty": 0}, "repetition_penalty"),
    (CHAT, {"messages": HI, "logit_bias": {"a": 1}}, "logit_bias"),
    (CHAT, {"messages": HI, "logit_bias": {"-1": 1}}, "logit_bias"),
    (CHAT, {"messages": HI, "logit_bias": {"99": 1}}, "logit_bias"),
    (CHAT, {"messages": HI, "logit_bias": {"1": 101}}, "logit_bias"),
    (CHAT, {"messages": HI, "logit_bias": [1]}, "logit_bias"),
    (CHAT, {"messages": HI, "allowed_token_ids": [99]}, "allowed_token_ids"),
    (CHAT, {"messages": HI, "banned_token_ids": [-1]}, "banned_token_ids"),
    (CHAT, {"messages": HI, "tools": [{"type": "function"}]}, "tools"),
    (CHAT, {"messages": HI, "response_format": {"type": "json_object"}}, "response_format"),
    (CHAT, {"messages": HI, "wings": 2}, "wings"),
    (CHAT, {"messages": [{"role": "user", "content": "a" * MAX_MODEL_LEN}]}, "messages"),
    (TEXT, {}, "prompt"),
    (TEXT, {"prompt": ""}, "prompt"),
    (TEXT, {"prompt": []}, "prompt"),
    (TEXT, {"prompt": ["a"] * 65, "n": 2}, "prompt"),
    (TEXT, {"prompt": [[1], []]}, "prompt"),
    (TEXT, {"prompt": [[1], 1]}, "prompt"),
    (TEXT, {"prompt": [1, "a"]}, "prompt"),
    (TEXT, {"prompt": [99]}, "prompt"),
    (TEXT, {"prompt": [-1]}, "prompt"),
    (TEXT, {"prompt": "a", "echo": 1}, "echo"),
    (TEXT, {"prompt": "a", "suffix": "b"}, "suffix"),
    (TEXT, {"prompt": "a", "best_of": 2}, "best_of"),
    (TEXT, {"prompt": "a", "logprobs": 6}, "logprobs"),
    (TEXT, {"prompt": "a", "logprobs": True}, "logprobs"),
    (NATIVE, {"prompt": ["a", "b"]}, "prompt"),
    (NATIVE, {"prompt": "a", "n": 2}, "n"),
    (NATIVE, {"prompt": "a", "logprobs": 1}, "logprobs"),
    (NATIVE, {"prompt": "a", "messages": HI}, "prompt"),
    (NATIVE, {}, "prompt"),
    ("/api/chat/message", {"message": ""}, "message"),
    ("/api/chat/message", {"message": 5}, "message"),
]


async def test_bad_input_is_400_and_names_the_field(served: Served, client):
    for path, body, param in BAD_INPUT:
        for stream in (False, True):
            reply = await client.post(path, json=body | {"stream": stream})
            error = reply.json()["error"]
            assert (reply.status_code, error["param"]) == (400, param), (path, body)
            assert error["type"] == "invalid_request_error"
            assert error["message"]
    assert len(served.gateway.live_requests) == 0
    assert served.cluster.queue.attempts.empty()


@pytest.mark.parametrize("path", [CHAT, TEXT, "/v1/responses"])
async def test_stream_options_without_a_stream_are_400(served: Served, client, path: str):
    prompt = {CHAT: {"messages": HI}, TEXT: {"prompt": "a"}}.get(path, {"input": "a"})
    reply = await client.post(path, json=prompt | {"stream_options": {}})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "stream_options")


async def test_a_body_that_says_it_is_no_json_is_415(working: Served, client):
    body = b'{"prompt":"a","max_tokens":1}'
    for kind, status in (
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
    ):
        reply = await client.post(TEXT, content=body, headers={"content-type": kind})
        assert reply.status_code == status, kind
    assert (await client.post(TEXT, content=body)).status_code == 200


async def test_neutral_values_of_unsupported_fields_are_taken(working: Served, client):
    body = {
        "messages": HI,
        "max_tokens": 1,
        "n": 1,
        "tools": [],
        "logprobs": False,
        "presence_penalty": 0,
        "response_format": {"type": "text"},
        "user": "me",
        "metadata": {"a": "b"},
        "store": False,
        "stop": None,
        "top_k": 10**12,
    }
    assert (await client.post(CHAT, json=body)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nope", b"\xff\xfe", b'{"messages":[{"role":"\xff"}]}', b'{"temperature":NaN}'],
)
async def test_a_body_that_is_no_json_is_400(served: Served, client, body: bytes):
    reply = await client.post(CHAT, content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "malformed_json"


async def test_a_body_over_the_limit_is_413_with_the_limit(served: Served, client):
    too_long = b'{"prompt":"' + b"x" * (10 << 20) + b'"}'

    async def pieces():
        yield too_long

    for content in (too_long, pieces()):
        reply = await client.post(TEXT, content=content)
        assert reply.status_code == 413
        assert str(64 << 10) in reply.json()["error"]["message"]


async def test_unknown_model_is_404_model_not_found(served: Served, client):
    for reply in (
        await client.post(CHAT, json={"messages": HI, "model": "x"}),
        await client.get("/v1/models/x"),
    ):
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "model_not_found"


async def test_unknown_paths_and_methods_are_errors_in_the_same_format(served: Served, client):
    assert (await client.get("/nope")).json()["error"]["message"] == "Not Found"
    reply = await client.get(CHAT)
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST"


async def test_a_full_queue_is_503_with_retry_after(served: Served, client):
    served.cluster.queue.error = Overloaded("the request queue is full", reason="QUEUE_FULL")
    reply = await client.post(CHAT, json={"messages": HI})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "queue_full")
    assert int(reply.headers["retry-after"]) >= 1
    assert len(served.gateway.live_requests) == 0


async def test_a_broker_that_is_away_is_503(served: Served, client):
    served.cluster.queue.error = DependencyLost("no answer")
    reply = await client.post(CHAT, json={"messages": HI, "stream": True})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "dependency_lost")


async def test_a_full_gateway_is_503(served: Served, client):
    asked = [asyncio.ensure_future(client.post(CHAT, json={"messages": HI})) for _ in range(8)]
    for _ in asked:
        await served.cluster.queue.next_attempt()
    reply = await client.post(CHAT, json={"messages": HI})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "gateway_full")
    for task in asked:
        task.cancel()


async def test_a_deadline_in_the_queue_is_504(served: Served, client):
    reply = await client.post(CHAT, json={"messages": HI}, headers={"x-request-timeout-s": "0.05"})
    assert (reply.status_code, reply.json()["error"]["type"]) == (504, "timeout_error")
    async with asyncio.timeout(5):
        await served.cluster.queue.cancelled.get()


async def test_a_deadline_in_the_stream_is_an_event(served: Served, client):
    asked = asyncio.ensure_future(
        client.post(
            CHAT,
            json={"messages": HI, "stream": True},
            headers={"x-request-timeout-s": "0.5"},
        )
    )
    request = await served.cluster.queue.next_attempt()
    async with fake_worker(served.grpc_target) as worker:
        await worker.attach(request.request_id, 1)
        await worker.deliver(1, 0, [0])
        reply: httpx.Response = await asked
    assert reply.status_code == 200
    events = [line for line in reply.text.split("\n\n") if line]
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
    assert "[DONE]" not in reply.text


@pytest.mark.parametrize("text", ["", "nan", "-1", "inf", "soon"])
async def test_a_timeout_that_is_no_time_is_400(served: Served, client, text: str):
    reply = await client.post(CHAT, json={"messages": HI}, headers={"x-request-timeout-s": text})
    assert reply.json()["error"]["param"] == "X-Request-Timeout-S"


async def test_a_draining_gateway_finishes_what_runs_and_takes_nothing(served: Served, client):
    asked = asyncio.ensure_future(client.post(TEXT, json={"prompt": "a", "max_tokens": 2}))
    request = await served.cluster.queue.next_attempt()
    draining = asyncio.ensure_future(served.gateway.drain())
    async with fake_worker(served.grpc_target) as worker:
        await worker.attach(request.request_id, 1)
        reply = await client.post(CHAT, json={"messages": HI})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "draining")
        assert int(reply.headers["retry-after"]) >= 1
        assert (await client.get("/readyz")).status_code == 503
        await worker.deliver(1, 0, [0, 1], FinishReason.LENGTH)
        assert (await asked).json()["choices"][0]["text"] == "ab"
        await draining


async def test_full_gateway_gives_up_waiting_batch_for_a_person(served: Served, client):
    path, body = "/v1/completions", {"prompt": "a", "max_tokens": 2}
    async with asyncio.TaskGroup() as tasks:
        first = [
            tasks.create_task(client.post(path, json={**body, "priority": "batch"}))
            for _ in range(8)
        ]
        while len(served.gateway.live_requests) < 8:
            await asyncio.sleep(0.001)
        person = tasks.create_task(client.post(path, json=body))
        done, _ = await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        served.start_worker()
    (displaced,) = done
    assert displaced.result().status_code == 503
    assert displaced.result().json()["error"]["message"].startswith("this gateway is full")
    assert person.result().status_code == 200
    assert sorted(task.result().status_code for task in first) == [200] * 7 + [503]
