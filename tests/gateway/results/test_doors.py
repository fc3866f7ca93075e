"""The result cache as callers meet it."""

import asyncio
import re
from typing import Any

import grpc
import httpx
import pytest
from tokenmill.v1.inference_pb2_grpc import InferenceServiceStub

from gateway.results import result_cache
from gateway.settings import GatewaySettings
from services.core.access_policy import AuthMode
from services.core.caller import Limits, Scope
from services.core.errors import DependencyLost
from services.core.kv_events import KvState
from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.request import ChatMessage, FinishReason
from services.core.sampling import SamplingParams
from services.wire.heartbeat import encode_heartbeat
from services.wire.inference import ChatCall, answer_part_from_pb, chat_request_to_pb
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL, fake_worker, ids_of

HI = [{"role": "user", "content": "hi"}]
CHAT = ("/v1/chat/completions", {"messages": HI, "max_tokens": 3, "temperature": 0})
ROUTES = [
    CHAT,
    ("/v1/completions", {"prompt": ["a", "b"], "n": 2, "max_tokens": 3, "temperature": 0}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 3, "temperature": 0}),
    ("/v1/messages", {"model": MODEL, "max_tokens": 3, "messages": HI, "temperature": 0}),
    ("/api/v1/inference/generate", {"prompt": "a", "max_tokens": 3, "seed": 5}),
]
HEADER = "x-result-cache"


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(http_port=0, grpc_port=0, drain_timeout_s=5, auth=AuthMode.REQUIRED)


@pytest.fixture
def key(served: Served) -> str:
    """Of a caller that wants kept results; the model's workers have told of their weights."""
    tell_weights(served, "w1", "weights-1")
    return served.cluster.access.add_key(
        tenant="acme", scopes=frozenset(Scope), caches_results=True
    )


def tell_weights(served: Served, worker_id: str, revision: str) -> None:
    load = WorkerLoad(8, 0, 0, 8, 8, 16, 0)
    heartbeat = WorkerHeartbeat(
        worker_id, "here:1", MODEL, WorkerState.READY, 1, load, KvState(revision, "f32", 1, 0)
    )
    served.gateway.live_view.hear(encode_heartbeat(heartbeat))


async def ask(
    client: httpx.AsyncClient, key: str, path: str, body: dict[str, Any], **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {"authorization": f"Bearer {key}", **named}
    reply = await client.post(path, json=body, headers=given)
    assert reply.status_code == 200, reply.text
    return reply


def only_texts(value: Any) -> Any:
    """A reply without what names it, and without its usage."""
    if isinstance(value, dict):
        left_out = ("id", "request_id", "created", "created_at", "usage", "item_id")
        return {name: only_texts(one) for name, one in value.items() if name not in left_out}
    return [only_texts(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_every_route_gives_a_kept_answer_again_and_says_so(
    working: Served, client: httpx.AsyncClient, key: str, path: str, body: dict[str, Any]
):
    body = {**body, "stream": False}
    first = await ask(client, key, path, body)
    num_queued = len(working.cluster.queue.message_ids)
    second = await ask(client, key, path, body)
    assert (first.headers[HEADER], second.headers[HEADER]) == ("miss", "hit")
    assert "age" not in first.headers
    assert second.headers["age"].isdigit()
    assert "result_cached" not in first.json()["usage"]
    assert second.json()["usage"]["result_cached"] is True
    assert only_texts(second.json()) == only_texts(first.json())
    assert len(working.cluster.queue.message_ids) == num_queued


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_a_stream_is_played_again_token_by_token(
    working: Served, client: httpx.AsyncClient, key: str, path: str, body: dict[str, Any]
):
    whole = await ask(client, key, path, {**body, "stream": False})
    again = await ask(client, key, path, {**body, "stream": True})
    assert (whole.headers[HEADER], again.headers[HEADER]) == ("miss", "hit")
    deltas = re.findall(r'"([abc])"', again.text)
    assert sorted(deltas) == sorted("abc" * (4 if "n" in body else 1))
    fresh = await ask(client, key, path, {**body, "stream": True}, x_result_cache="off")
    assert HEADER not in fresh.headers


async def test_grpc_says_it_in_trailers_and_usage(working: Served, key: str):
    async with grpc.aio.insecure_channel(working.grpc_target) as channel:
        call = ChatCall(
            (ChatMessage("user", "hi"),), sampling=SamplingParams(max_tokens=3, temperature=0)
        )
        answers = []
        for _ in range(2):
            stream = InferenceServiceStub(channel).Chat(
                chat_request_to_pb(call), metadata=(("authorization", f"Bearer {key}"),)
            )
            parts = [answer_part_from_pb(part) async for part in stream]
            trailers = dict(await stream.trailing_metadata())
            assert parts[-1].usage is not None
            text = "".join(part.text for part in parts)
            answers.append((text, trailers[HEADER], parts[-1].usage.is_result_cached))
    assert answers == [("abc", "miss", False), ("abc", "hit", True)]


async def test_a_session_goes_on_from_kept_answers(
    working: Served, client: httpx.AsyncClient, key: str
):
    path = "/api/chat/message"
    for session in ("a", "b"):
        for message in ("one", "two"):
            body = {"message": message, "max_tokens": 3, "temperature": 0, "stream": False}
            reply = await ask(client, key, path, body, x_session_id=session)
            assert reply.headers[HEADER] == ("miss" if session == "a" else "hit")
    shown = await client.get("/api/chat/sessions/b", headers={"authorization": f"Bearer {key}"})
    assert [one["content"] for one in shown.json()["messages"]] == ["one", "abc", "two", "abc"]


async def test_another_tenant_gets_nothing_of_it(
    working: Served, client: httpx.AsyncClient, key: str
):
    stranger = working.cluster.access.add_key(tenant="globex", caches_results=True)
    colleague = working.cluster.access.add_key(tenant="acme", caches_results=True)
    outcomes = [
        (await ask(client, one, *CHAT)).headers[HEADER] for one in (key, stranger, colleague)
    ]
    assert outcomes == ["miss", "miss", "hit"]


@pytest.mark.parametrize(
    ("more", "headers", "outcomes"),
    [
        ({"temperature": 1}, {}, ["bypass", "bypass"]),
        ({"temperature": 1, "seed": 4}, {}, ["miss", "hit"]),
        ({}, {"cache_control": "no-store"}, ["bypass", "bypass"]),
        ({}, {"cache_control": "no-cache"}, ["miss", "miss"]),
        ({}, {"cache_control": "max-age=60"}, ["miss", "hit"]),
        ({"logprobs": True, "top_logprobs": 2}, {}, ["miss", "hit"]),
        ({"stop": "c"}, {}, ["miss", "hit"]),
    ],
)
async def test_what_may_be_kept(
    working: Served,
    client: httpx.AsyncClient,
    key: str,
    more: dict[str, Any],
    headers: dict[str, str],
    outcomes: list[str],
):
    replies = [await ask(client, key, CHAT[0], {**CHAT[1], **more}, **headers) for _ in range(2)]
    assert [reply.headers[HEADER] for reply in replies] == outcomes
    assert only_texts(replies[0].json()) == only_texts(replies[1].json())


async def test_no_cache_renews_what_is_kept(working: Served, client: httpx.AsyncClient, key: str):
    await ask(client, key, *CHAT)
    working.cluster.script = lambda request: [ids_of("xyz")]
    renewed = await ask(client, key, *CHAT, cache_control="no-cache")
    after = await ask(client, key, *CHAT)
    assert after.headers[HEADER] == "hit"
    assert only_texts(after.json()) == only_texts(renewed.json())


async def test_workers_with_other_weights_have_answers_of_their_own(
    working: Served, client: httpx.AsyncClient, key: str
):
    await ask(client, key, *CHAT)
    tell_weights(working, "w1", "weights-2")
    assert (await ask(client, key, *CHAT)).headers[HEADER] == "miss"
    tell_weights(working, "w2", "weights-3")
    assert (await ask(client, key, *CHAT)).headers[HEADER] == "bypass"


async def test_an_answer_that_breaks_off_is_not_kept(
    served: Served, client: httpx.AsyncClient, key: str
):
    headers = {"authorization": f"Bearer {key}"}
    async with fake_worker(served.grpc_target) as worker:
        asking = asyncio.ensure_future(client.post(CHAT[0], json=CHAT[1], headers=headers))
        request = await served.cluster.queue.next_attempt()
        attached = await worker.attach(request.request_id, 1)
        await worker.deliver(attached.handle, 0, (0, 1))
        await worker.deliver(attached.handle, 2, (), FinishReason.ERROR, error_message="boom")
        assert (await asking).status_code == 500
        body = {**CHAT[1], "stream": True}
        streaming = client.build_request("POST", CHAT[0], json=body, headers=headers)
        asking = asyncio.ensure_future(client.send(streaming, stream=True))
        request = await served.cluster.queue.next_attempt()
        attached = await worker.attach(request.request_id, 1)
        await worker.deliver(attached.handle, 0, (0, 1))
        await (await asking).aclose()
        await worker.read()
    assert not served.cluster.results.values


async def test_a_hit_is_one_request_and_no_tokens(
    working: Served, client: httpx.AsyncClient, key: str
):
    await ask(client, key, *CHAT)
    narrow = working.cluster.access.add_key(
        tenant="acme", caches_results=True, limits=Limits(requests_per_min=2, tokens_per_min=5)
    )
    headers = {"authorization": f"Bearer {narrow}"}
    replies = [await client.post(CHAT[0], json=CHAT[1], headers=headers) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert replies[1].headers["x-ratelimit-remaining-tokens"] == "5"
    shown = await client.get("/api/v1/usage", headers=headers)
    used = next(day for day in shown.json()["data"] if day["key_id"] in narrow)
    assert (used["num_requests"], used["prompt_tokens"], used["completion_tokens"]) == (2, 0, 0)


async def test_a_cache_that_fails_costs_nothing_but_itself(
    working: Served,
    client: httpx.AsyncClient,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
):
    async def lost(*_: object) -> None:
        raise DependencyLost("away")

    async def late(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(result_cache, "PATIENCE_S", 0.01)
    for failing in (lost, late):
        monkeypatch.setattr(working.cluster.results, "read", failing)
        monkeypatch.setattr(working.cluster.results, "put", failing)
        assert (await ask(client, key, *CHAT)).headers[HEADER] == "miss"
