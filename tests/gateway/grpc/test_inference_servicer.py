import asyncio

import grpc
import pytest
from grpc_status import rpc_status
from tokenmill.v1.inference_pb2_grpc import InferenceServiceStub

from services.core.logprobs import TokenLogprobs
from services.core.request import ChatMessage, FinishReason, Usage
from services.core.sampling import SamplingParams
from services.wire.errors import from_rpc_error
from services.wire.inference import (
    AnswerPart,
    ChatCall,
    GenerateCall,
    answer_part_from_pb,
    chat_request_to_pb,
    generate_request_to_pb,
    list_models_request_to_pb,
    list_models_response_from_pb,
)
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MAX_MODEL_LEN, MODEL

FOUR = SamplingParams(max_tokens=4)


@pytest.fixture
async def stub(served: Served):
    async with grpc.aio.insecure_channel(served.grpc_target) as channel:
        yield InferenceServiceStub(channel)


async def parts_of(call) -> list[AnswerPart]:
    return [answer_part_from_pb(message) async for message in call]


async def test_generate_streams_text_and_ends_with_usage(working: Served, stub):
    call = GenerateCall(prompt="abc", sampling=FOUR, return_token_ids=True)
    parts = await parts_of(stub.Generate(generate_request_to_pb(call), timeout=5))
    assert "".join(part.text for part in parts) == "abcd"
    assert [i for part in parts for i in part.token_ids] == [0, 1, 2, 3]
    assert parts[-1].finish_reason is FinishReason.LENGTH
    assert parts[-1].usage == Usage(prompt_tokens=3, completion_tokens=4)
    assert {part.finish_reason for part in parts[:-1]} <= {None}


async def test_request_id_is_echoed_and_part_of_the_own_one(working: Served, stub):
    call = stub.Generate(
        generate_request_to_pb(GenerateCall(prompt="a", sampling=FOUR)),
        metadata=(("x-request-id", "mine"),),
        timeout=5,
    )
    parts = await parts_of(call)
    assert dict(await call.initial_metadata())["x-request-id"] == "mine"
    assert parts[0].request_id.startswith("mine.")


async def test_chat_in_a_session_remembers(working: Served, stub):
    for text in ("one", "two"):
        call = ChatCall((ChatMessage("user", text),), sampling=FOUR, session_id="s")
        await parts_of(stub.Chat(chat_request_to_pb(call), timeout=5))
    assert [message.content for message in working.cluster.tokenizer.conversations[-1]] == [
        "one",
        "abcd",
        "two",
    ]


async def test_models_are_listed(served: Served, stub):
    models = list_models_response_from_pb(await stub.ListModels(list_models_request_to_pb()))
    assert [(model.name, model.max_model_len) for model in models] == [(MODEL, MAX_MODEL_LEN)]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (GenerateCall(), "prompt"),
        (GenerateCall(prompt="a", prompt_token_ids=(1,)), "prompt"),
        (GenerateCall(prompt_token_ids=(99,)), "prompt_token_ids"),
        (GenerateCall(prompt="a", sampling=SamplingParams(temperature=-1)), "temperature"),
        (GenerateCall(prompt="a", sampling=SamplingParams(max_tokens=0)), "max_tokens"),
        (GenerateCall(prompt="a" * MAX_MODEL_LEN), "prompt"),
    ],
)
async def test_bad_input_names_its_field(served: Served, stub, call: GenerateCall, field: str):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await parts_of(stub.Generate(generate_request_to_pb(call), timeout=5))
    error = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(error)
    core = from_rpc_error(error.code(), error.details() or "", status, peer="gateway")
    assert getattr(core, "field", None) == field


async def test_bytes_that_are_no_message_are_the_callers_error(served: Served):
    async with grpc.aio.insecure_channel(served.grpc_target) as channel:
        call = channel.unary_stream("/tokenmill.v1.InferenceService/Generate")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            # Field 2, two bytes, no UTF-8.
            await call(b"\x12\x02\xff\xfe", timeout=5).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_unknown_model_is_not_found(served: Served, stub):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await parts_of(stub.Generate(generate_request_to_pb(GenerateCall("a", model="x"))))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_callers_deadline_travels_with_the_request(served: Served, stub):
    call = stub.Generate(generate_request_to_pb(GenerateCall(prompt="a")), timeout=20)
    request = await served.cluster.queue.next_attempt()
    # On the wire gRPC rounds a timeout up, by less than a hundredth.
    assert 15_000 < request.deadline_unix_ms - request.accepted_unix_ms <= 20_200
    call.cancel()


async def test_cancelled_call_cancels_the_queued_request(served: Served, stub):
    call = stub.Generate(generate_request_to_pb(GenerateCall(prompt="a")), timeout=20)
    reading = asyncio.ensure_future(call.read())
    request = await served.cluster.queue.next_attempt()
    call.cancel()
    async with asyncio.timeout(5):
        assert await served.cluster.queue.cancelled.get() == request.request_id
    reading.cancel()


async def test_choices_come_interleaved_and_usage_counts_them_all(working: Served, stub):
    call = GenerateCall(
        prompt="ab",
        sampling=SamplingParams(max_tokens=3, logprobs=1, prompt_logprobs=0),
        num_choices=2,
        return_token_ids=True,
    )
    parts = await parts_of(stub.Generate(generate_request_to_pb(call), timeout=5))
    for choice_idx in (0, 1):
        mine = [part for part in parts if part.choice_idx == choice_idx]
        assert "".join(part.text for part in mine) == "abc"
        assert [len(part.logprobs) for part in mine] == [len(part.token_ids) for part in mine]
        assert mine[0].prompt_logprobs == (TokenLogprobs(-1.0),)
        assert mine[-1].finish_reason is FinishReason.LENGTH
    assert [part.usage is not None for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].usage == Usage(prompt_tokens=2, completion_tokens=6)


@pytest.mark.parametrize("fields", [{"num_choices": 129}, {"num_choices": 2, "session_id": "s"}])
async def test_too_many_choices_are_refused(working: Served, stub, fields):
    call = ChatCall((ChatMessage("user", "a"),), sampling=FOUR, **fields)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await parts_of(stub.Chat(chat_request_to_pb(call), timeout=5))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "num_choices" in (caught.value.details() or "")
