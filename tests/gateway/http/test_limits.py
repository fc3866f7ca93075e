import asyncio
from typing import Any

import grpc
import httpx
import pytest
from grpc_status import rpc_status
from tokenmill.v1.inference_pb2_grpc import InferenceServiceStub

from gateway.settings import GatewaySettings
from services.core.access_policy import AuthMode
from services.core.caller import Limits
from services.core.errors import QuotaExceeded
from services.core.sampling import SamplingParams
from services.wire.errors import from_rpc_error
from services.wire.inference import GenerateCall, generate_request_to_pb
from tests.gateway.conftest import Served

PATH = "/v1/completions"


@pytest.fixture
def settings() -> GatewaySettings:
    return GatewaySettings(http_port=0, grpc_port=0, drain_timeout_s=5, auth=AuthMode.REQUIRED)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def ask(client: httpx.AsyncClient, key: str, **fields: object) -> httpx.Response:
    body = {"prompt": "abc", "max_tokens": 2} | fields
    return await client.post(PATH, json=body, headers=bearer(key))


async def test_replies_count_down_and_a_429_says_when_to_come_back(
    working: Served, client: httpx.AsyncClient
):
    key = working.cluster.access.add_key(limits=Limits(requests_per_min=3, tokens_per_min=100))
    left: list[tuple[str, str]] = []
    for _ in range(3):
        reply = await ask(client, key)
        assert reply.status_code == 200
        assert reply.headers["x-ratelimit-limit-requests"] == "3"
        left.append(
            (
                reply.headers["x-ratelimit-remaining-requests"],
                reply.headers["x-ratelimit-remaining-tokens"],
            )
        )
    assert left == [("2", "95"), ("1", "90"), ("0", "85")]
    reply = await ask(client, key)
    assert reply.status_code == 429
    assert reply.json()["error"]["type"] == "rate_limit_error"
    assert reply.json()["error"]["code"] == "rate_limit_exceeded"
    assert "requests a minute" in reply.json()["error"]["message"]
    assert 1 <= int(reply.headers["retry-after"]) <= 61
    assert reply.headers["x-ratelimit-remaining-requests"] == "0"
    assert reply.headers["x-ratelimit-reset-requests"].endswith("s")


async def test_streamed_replies_bear_the_same_headers(working: Served, client: httpx.AsyncClient):
    key = working.cluster.access.add_key(limits=Limits(requests_per_min=3))
    reply = await ask(client, key, stream=True)
    assert reply.headers["x-ratelimit-remaining-requests"] == "2"


async def test_one_key_s_limit_is_not_another_one_s(working: Served, client: httpx.AsyncClient):
    access = working.cluster.access
    first, second = (access.add_key(limits=Limits(requests_per_min=1)) for _ in range(2))
    assert [(await ask(client, key)).status_code for key in (first, first, second)] == [
        200,
        429,
        200,
    ]


async def test_a_tenant_s_limit_counts_all_its_keys(working: Served, client: httpx.AsyncClient):
    access = working.cluster.access
    access.limit_tenant("acme", Limits(requests_per_min=1))
    first, second = (access.add_key(tenant="acme") for _ in range(2))
    assert (await ask(client, first)).status_code == 200
    assert (await ask(client, second)).status_code == 429


async def test_an_answer_without_max_tokens_fits_into_the_limit(
    working: Served, client: httpx.AsyncClient
):
    key = working.cluster.access.add_key(limits=Limits(tokens_per_min=10))
    reply = await ask(client, key, max_tokens=None)
    assert reply.json()["usage"]["completion_tokens"] == 7
    too_long = await ask(client, key, max_tokens=8)
    assert (too_long.status_code, too_long.json()["error"]["param"]) == (400, "max_tokens")


async def test_a_request_that_runs_keeps_its_place(served: Served, client: httpx.AsyncClient):
    key = served.cluster.access.add_key(limits=Limits(max_concurrent=1))
    first = asyncio.ensure_future(ask(client, key))
    await served.cluster.queue.next_attempt()
    assert "at once" in (await ask(client, key)).json()["error"]["message"]
    first.cancel()
    served.start_worker()
    async with asyncio.timeout(10):
        while (await ask(client, key)).status_code != 200:
            await asyncio.sleep(0.01)


async def test_grpc_says_it_with_retry_info(working: Served):
    key = working.cluster.access.add_key(limits=Limits(requests_per_min=1))
    request = generate_request_to_pb(
        GenerateCall(prompt="a", sampling=SamplingParams(max_tokens=1))
    )
    metadata = (("authorization", f"Bearer {key}"),)
    async with grpc.aio.insecure_channel(working.grpc_target) as channel:
        stub = InferenceServiceStub(channel)
        assert [part async for part in stub.Generate(request, metadata=metadata)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [part async for part in stub.Generate(request, metadata=metadata)]
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    core = from_rpc_error(error.code(), "", rpc_status.from_call(error), peer="gateway")
    assert isinstance(core, QuotaExceeded)
    assert core.retry_after_s is not None
    assert core.retry_after_s >= 1


async def test_usage_is_kept_per_key_and_shown_to_its_tenant_alone(
    working: Served, client: httpx.AsyncClient
):
    access = working.cluster.access
    mine, also_mine, other = (access.add_key(tenant=t) for t in ("one", "one", "two"))
    for key in (mine, mine, also_mine):
        await ask(client, key)
    days = (await client.get("/api/v1/usage", headers=bearer(mine))).json()["data"]
    assert sorted((day["num_requests"], day["completion_tokens"]) for day in days) == [
        (1, 2),
        (2, 4),
    ]
    assert {day["tenant"] for day in days} == {"one"}
    assert (await client.get("/api/v1/usage", headers=bearer(other))).json()["data"] == []
