"""One tenant learns nothing of another's; a caller without a key learns nothing at all."""

import re
from typing import Any

import grpc
import httpx
import pytest
from tokenmill.v1.inference_pb2_grpc import InferenceServiceStub

from gateway.http.openapi.document import OPERATIONS
from gateway.settings import GatewaySettings
from services.core.access_policy import AuthMode
from services.core.caller import Scope
from services.core.request import ChatMessage
from services.core.sampling import SamplingParams
from services.wire.inference import (
    ChatCall,
    GenerateCall,
    chat_request_to_pb,
    generate_request_to_pb,
    list_models_request_to_pb,
    list_models_response_from_pb,
)
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL

HI = [{"role": "user", "content": "hi"}]
ASKS = [
    ("POST", "/v1/chat/completions", {"messages": HI, "max_tokens": 2}),
    ("POST", "/v1/completions", {"prompt": "a", "max_tokens": 2}),
    ("POST", "/api/v1/inference/generate", {"prompt": "a", "max_tokens": 2, "stream": False}),
    ("POST", "/v1/responses", {"input": "hi", "max_output_tokens": 2}),
    ("POST", "/v1/messages", {"model": MODEL, "max_tokens": 2, "messages": HI}),
    ("POST", "/v1/messages/count_tokens", {"model": MODEL, "messages": HI}),
    ("POST", "/tokenize", {"prompt": "a"}),
    ("POST", "/detokenize", {"tokens": [1]}),
    ("POST", "/api/chat/message", {"message": "hi", "max_tokens": 2, "stream": False}),
]
READS = [("GET", "/v1/models", None), ("GET", f"/v1/models/{MODEL}", None)]
OTHERS = [
    ("GET", "/metrics", None),
    ("GET", "/api/v1/usage", None),
    ("GET", "/api/chat/sessions", None),
    ("GET", "/api/chat/sessions/a", None),
    ("DELETE", "/api/chat/sessions/a", None),
    ("GET", "/v1/responses/resp_a", None),
    ("DELETE", "/v1/responses/resp_a", None),
    ("POST", "/v1/responses/resp_a/cancel", None),
    ("GET", "/v1/responses/resp_a/input_items", None),
    ("GET", "/api/v1/live", None),
    ("GET", "/api/v1/explain/req-a", None),
    ("GET", "/nowhere", None),
]
WRONG = ["none", "tm-", "tm-" + "0" * 12 + "-" + "a" * 43, "sk-abc"]


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(http_port=0, grpc_port=0, drain_timeout_s=5, auth=AuthMode.REQUIRED)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_no_endpoint_is_left_out_here():
    tried = {(method.lower(), path) for method, path, _ in ASKS + READS + OTHERS}
    for operation in OPERATIONS:
        pattern = re.compile(re.sub(r"{\w+}", "[^/]+", operation.path) + "$")
        is_tried = any(method == operation.method and pattern.match(path) for method, path in tried)
        assert is_tried or operation.is_public, (operation.method, operation.path)


@pytest.mark.parametrize(("method", "path", "body"), ASKS + READS + OTHERS)
async def test_every_endpoint_refuses_a_wrong_key(
    working: Served, client: httpx.AsyncClient, method: str, path: str, body: object
):
    for headers in ({}, *(bearer(key) for key in WRONG)):
        reply = await client.request(method, path, json=body, headers=headers)
        assert reply.status_code == 401, (path, headers)
        assert reply.json()["error"]["type"].startswith(("auth", "invalid")), reply.text
        assert reply.headers["www-authenticate"].startswith("Bearer")
    assert working.cluster.queue.message_ids == []


@pytest.mark.parametrize(("method", "path", "body"), ASKS + READS)
async def test_a_right_key_is_let_in_by_either_header(
    working: Served, client: httpx.AsyncClient, method: str, path: str, body: object
):
    key = working.cluster.access.add_key()
    for headers in (bearer(key), {"x-api-key": key}):
        reply = await client.request(method, path, json=body, headers=headers)
        assert reply.status_code == 200, reply.text


async def test_probes_ask_for_no_key(served: Served, client: httpx.AsyncClient):
    for path in ("/livez", "/readyz", "/health", "/openapi.json"):
        assert (await client.get(path)).status_code == 200


async def test_a_key_does_what_its_scopes_say(working: Served, client: httpx.AsyncClient):
    access = working.cluster.access
    asker = bearer(access.add_key(scopes=frozenset({Scope.INFERENCE})))
    reader = bearer(access.add_key(scopes=frozenset({Scope.SESSIONS})))
    operator = bearer(access.add_key(scopes=frozenset({Scope.ADMIN})))
    _, chat, chat_body = ASKS[0]
    _, message, message_body = ASKS[-1]

    async def status(path: str, body: object, headers: dict[str, str]) -> int:
        return (await client.post(path, json=body, headers=headers)).status_code

    assert await status(chat, chat_body, asker) == 200
    assert await status(message, message_body, asker) == 403
    assert await status(chat, chat_body, reader) == 403
    assert await status(chat, chat_body, operator) == 403
    assert (await client.get("/metrics", headers=operator)).status_code == 200
    assert (await client.get("/metrics", headers=asker)).status_code == 403


async def test_a_key_for_other_models_sees_and_uses_none(
    working: Served, client: httpx.AsyncClient
):
    headers = bearer(working.cluster.access.add_key(models=frozenset({"other"})))
    assert (await client.get("/v1/models", headers=headers)).json()["data"] == []
    assert (await client.get(f"/v1/models/{MODEL}", headers=headers)).status_code == 403
    for method, path, body in ASKS:
        reply = await client.request(method, path, json=body, headers=headers)
        assert (reply.status_code, reply.json()["error"]["type"]) == (403, "permission_error")


async def test_the_same_session_id_is_another_session_for_another_tenant(
    working: Served, client: httpx.AsyncClient
):
    access = working.cluster.access
    for tenant in ("one", "two"):
        headers = bearer(access.add_key(tenant=tenant)) | {"x-session-id": "shared"}
        body = {"message": tenant, "max_tokens": 2, "stream": False}
        reply = await client.post("/api/chat/message", json=body, headers=headers)
        assert reply.status_code == 200
    assert [message.content for message in working.cluster.tokenizer.conversations[-1]] == ["two"]


async def test_a_tenant_cannot_go_on_with_another_ones_session(
    working: Served, client: httpx.AsyncClient
):
    access = working.cluster.access
    body = {"message": "hi", "max_tokens": 2, "stream": False}
    owner, stranger = bearer(access.add_key(tenant="one")), bearer(access.add_key(tenant="two"))
    made = await client.post("/api/chat/message", json=body, headers=owner)
    session = {"x-session-id": made.json()["session_id"]}
    reply = await client.post("/api/chat/message", json=body, headers=stranger | session)
    unknown = {"x-session-id": "ses-" + "0" * 24}
    none_such = await client.post("/api/chat/message", json=body, headers=stranger | unknown)
    assert reply.status_code == none_such.status_code == 404
    assert reply.json()["error"]["code"] == none_such.json()["error"]["code"]


async def test_a_session_is_listed_read_and_deleted_by_its_tenant_alone(
    working: Served, client: httpx.AsyncClient
):
    access = working.cluster.access
    owner, stranger = bearer(access.add_key(tenant="one")), bearer(access.add_key(tenant="two"))
    blind = bearer(access.add_key(tenant="one", scopes=frozenset({Scope.INFERENCE})))
    body = {"message": "hi", "max_tokens": 2, "stream": False}
    await client.post("/api/chat/message", json=body, headers=owner | {"x-session-id": "a:b"})
    path, every = "/api/chat/sessions/a:b", "/api/chat/sessions"

    async def ids(headers: dict[str, str]) -> list[str]:
        return [one["id"] for one in (await client.get(every, headers=headers)).json()["data"]]

    assert (await ids(owner), await ids(stranger)) == (["a:b"], [])
    assert (await client.get(every, headers=blind)).status_code == 403
    read = (await client.get(path, headers=owner)).json()
    assert [message["content"] for message in read["messages"]] == ["hi", "ab"]
    for method in ("GET", "DELETE"):
        assert (await client.request(method, path, headers=stranger)).status_code == 404
    assert (await client.delete(path, headers=owner)).json()["deleted"]
    assert (await client.get(path, headers=owner)).status_code == 404
    assert await ids(owner) == []


async def test_a_kept_response_is_its_tenants_alone(working: Served, client: httpx.AsyncClient):
    access = working.cluster.access
    owner, stranger = bearer(access.add_key(tenant="one")), bearer(access.add_key(tenant="two"))
    body = {"input": "hi", "max_output_tokens": 2, "background": True}
    made = (await client.post("/v1/responses", json=body, headers=owner)).json()["id"]
    path = f"/v1/responses/{made}"
    assert (await client.get(path, headers=owner)).status_code == 200
    for method, url in (
        ("GET", path),
        ("DELETE", path),
        ("POST", f"{path}/cancel"),
        ("GET", f"{path}/input_items"),
    ):
        assert (await client.request(method, url, headers=stranger)).status_code == 404
    more = {"input": "hi", "previous_response_id": made}
    reply = await client.post("/v1/responses", json=more, headers=stranger)
    assert reply.status_code == 404


async def test_the_grpc_door_asks_for_the_same_keys(working: Served):
    good = working.cluster.access.add_key()
    blind = working.cluster.access.add_key(scopes=frozenset[Scope]())
    few = SamplingParams(max_tokens=2)
    generate = generate_request_to_pb(GenerateCall(prompt="a", sampling=few))
    chat = chat_request_to_pb(ChatCall((ChatMessage("user", "a"),), sampling=few, session_id="s"))
    async with grpc.aio.insecure_channel(working.grpc_target) as channel:
        stub = InferenceServiceStub(channel)

        async def code(call: Any) -> grpc.StatusCode:
            try:
                if hasattr(call, "__aiter__"):
                    _ = [part async for part in call]
                else:
                    await call
            except grpc.aio.AioRpcError as exc:
                return exc.code()
            return grpc.StatusCode.OK

        for key, expected in (
            (None, grpc.StatusCode.UNAUTHENTICATED),
            ("sk-wrong", grpc.StatusCode.UNAUTHENTICATED),
            (blind, grpc.StatusCode.PERMISSION_DENIED),
            (good, grpc.StatusCode.OK),
        ):
            metadata = () if key is None else (("authorization", f"Bearer {key}"),)
            for call in (
                stub.Generate(generate, metadata=metadata),
                stub.Chat(chat, metadata=metadata),
            ):
                assert await code(call) is expected
        models = list_models_request_to_pb()
        assert await code(stub.ListModels(models)) is grpc.StatusCode.UNAUTHENTICATED
        metadata = (("authorization", f"Bearer {good}"),)
        listed = await stub.ListModels(models, metadata=metadata)
        assert [model.name for model in list_models_response_from_pb(listed)] == [MODEL]
