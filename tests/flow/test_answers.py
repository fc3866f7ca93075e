"""The whole house answers: real model, real processes, clients that nobody here wrote."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import openai
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tokenmill.v1 import common_pb2, inference_pb2, inference_pb2_grpc

from services.core.errors import InvalidRequest
from services.runtime.rpc_client import peer_errors
from tests.support.client import stream_chat
from tests.support.cluster import LocalCluster

pytestmark = pytest.mark.flow

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
async def client(real_cluster: LocalCluster) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{real_cluster.url}/v1", api_key="none") as client:
        yield client


async def test_the_openai_client_gets_a_sensible_answer(
    client: openai.AsyncOpenAI, real_cluster: LocalCluster
):
    answer = await client.chat.completions.create(
        model=real_cluster.model, messages=QUESTION, temperature=0, max_tokens=32
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_streamed_and_whole_answers_are_equal(
    client: openai.AsyncOpenAI, real_cluster: LocalCluster
):
    asked: dict[str, Any] = {"model": real_cluster.model, "temperature": 0, "max_tokens": 24}
    whole = await client.chat.completions.create(messages=QUESTION, **asked)
    stream = await client.chat.completions.create(messages=QUESTION, stream=True, **asked)
    text = "".join(
        [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    )
    assert text == whole.choices[0].message.content


async def test_an_unknown_model_is_the_error_that_the_client_expects(client: openai.AsyncOpenAI):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-17", messages=QUESTION)
    assert caught.value.code == "model_not_found"


async def test_every_gateway_and_every_worker_serves(real_cluster: LocalCluster):
    # Different questions: equal ones would go where the first one's K/V is.
    bodies = [
        {
            "model": real_cluster.model,
            "messages": [{"role": "user", "content": f"{number} is a number. What else?"}],
            "max_tokens": 24,
            "ignore_eos": True,
        }
        for number in range(6)
    ]
    answers = await asyncio.gather(
        *(
            stream_chat(url, body)
            for url, body in zip(real_cluster.http_urls() * 3, bodies, strict=True)
        )
    )
    assert all(answer.is_done for answer in answers)
    workers = {real_cluster.worker_of(answer.request_id) for answer in answers}
    assert workers == {"worker-1", "worker-2"}


async def test_grpc_streams_text_ids_and_usage(real_cluster: LocalCluster):
    async with grpc.aio.insecure_channel(real_cluster.grpc_target) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        models = await stub.ListModels(inference_pb2.ListModelsRequest(), timeout=10)
        assert [model.name for model in models.models] == [real_cluster.model]
        request = inference_pb2.GenerateRequest(
            prompt="The capital of France is",
            sampling=common_pb2.SamplingParams(temperature=0, max_tokens=8),
            return_token_ids=True,
        )
        pieces = [piece async for piece in stub.Generate(request, timeout=60)]
    assert "Paris" in "".join(piece.text for piece in pieces)
    assert sum(len(piece.token_ids) for piece in pieces) == pieces[-1].usage.completion_tokens == 8
    assert pieces[-1].finish_reason == common_pb2.FINISH_REASON_LENGTH


async def test_grpc_refuses_by_field(real_cluster: LocalCluster):
    async with grpc.aio.insecure_channel(real_cluster.grpc_target) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        request = inference_pb2.GenerateRequest(
            prompt="x", sampling=common_pb2.SamplingParams(temperature=-1)
        )
        with pytest.raises(InvalidRequest) as caught, peer_errors("gateway"):
            await anext(aiter(stub.Generate(request, timeout=10)))
    assert caught.value.field == "sampling.temperature" or caught.value.field == "temperature"


async def test_every_process_has_standard_health_and_reflection(real_cluster: LocalCluster):
    for entry in real_cluster.state["processes"]:
        if entry["grpc_port"] is None:
            continue
        async with grpc.aio.insecure_channel(f"127.0.0.1:{entry['grpc_port']}") as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=10
            )
            assert health.status == health_pb2.HealthCheckResponse.SERVING, entry["name"]
            listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
            )
            reply = await anext(aiter(listing))
            names = {service.name for service in reply.list_services_response.service}
            assert "grpc.health.v1.Health" in names, entry["name"]


async def test_a_session_remembers(real_cluster: LocalCluster):
    async with httpx.AsyncClient(base_url=real_cluster.url, timeout=60) as client:
        first = await client.post(
            "/api/chat/message",
            json={"message": "My name is Ada.", "stream": False, "max_tokens": 16},
        )
        session = first.headers["x-session-id"]
        second = await client.post(
            "/api/chat/message",
            json={
                "message": "What is my name?",
                "stream": False,
                "temperature": 0,
                "max_tokens": 24,
            },
            headers={"X-Session-ID": session},
        )
    assert second.headers["x-session-id"] == session
    used = first.json()["usage"]
    # The second prompt holds the whole first turn; what the model makes of it is its own affair.
    assert second.json()["usage"]["prompt_tokens"] > used["total_tokens"]


async def test_metrics_and_readiness_answer(real_cluster: LocalCluster):
    async with httpx.AsyncClient(base_url=real_cluster.url) as client:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        metrics = (await client.get("/metrics")).text
        models = (await client.get("/v1/models")).json()
    assert "gen_ai_server_time_to_first_token_seconds_bucket" in metrics
    assert models["data"][0]["id"] == real_cluster.model
