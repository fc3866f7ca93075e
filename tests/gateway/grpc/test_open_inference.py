import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from tokenmill.kserve import open_inference_pb2 as pb
from tokenmill.kserve.open_inference_pb2_grpc import GRPCInferenceServiceStub

from gateway.settings import GatewaySettings
from services.core.access_policy import AuthMode
from services.core.caller import Limits
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL

FOUR = {"max_tokens": pb.InferParameter(int64_param=4)}


@pytest.fixture
async def stub(served: Served) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(served.grpc_target) as channel:
        yield GRPCInferenceServiceStub(channel)


def asking(text: str = "ab", *, raw: bool = True, request_id: str = "", **inputs: Any) -> Any:
    """A request with a prompt; other inputs as JSON, or as a truth value."""
    given = dict[str, Any](inputs)
    if text:
        given["text_input"] = text
    message = pb.ModelInferRequest(model_name=MODEL, id=request_id, parameters=FOUR)
    for name, value in given.items():
        kind = "BOOL" if isinstance(value, bool) else "BYTES"
        tensor = message.inputs.add(name=name, datatype=kind, shape=[1])
        content = value if isinstance(value, str) else json.dumps(value)
        if kind == "BOOL" and raw:
            message.raw_input_contents.append(bytes([bool(value)]))
        elif kind == "BOOL":
            tensor.contents.bool_contents.append(bool(value))
        elif raw:
            message.raw_input_contents.append(element(content))
        else:
            tensor.contents.bytes_contents.append(content.encode())
    return message


def element(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode()


def text_of(response: Any) -> str:
    if response.raw_output_contents:
        return response.raw_output_contents[0][4:].decode()
    return response.outputs[0].contents.bytes_contents[0].decode()


async def test_a_server_says_what_it_is_and_has(served: Served, stub):
    assert (await stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
    assert (await stub.ModelReady(pb.ModelReadyRequest(name=MODEL))).ready
    assert not (await stub.ModelReady(pb.ModelReadyRequest(name="x"))).ready
    assert not (await stub.ModelReady(pb.ModelReadyRequest(name=MODEL, version="2"))).ready
    assert (await stub.ServerMetadata(pb.ServerMetadataRequest())).name == "tokenmill"
    metadata = await stub.ModelMetadata(pb.ModelMetadataRequest(name=MODEL))
    assert (metadata.name, list(metadata.versions)) == (MODEL, ["1"])
    assert "text_input" in [tensor.name for tensor in metadata.inputs]
    assert [tensor.name for tensor in metadata.outputs] == ["text_output"]


@pytest.mark.parametrize("raw", [True, False])
async def test_a_request_is_answered_as_it_came(working: Served, stub, raw: bool):
    response = await stub.ModelInfer(asking(raw=raw, request_id="mine"))
    assert text_of(response) == "abcd"
    assert bool(response.raw_output_contents) is raw
    assert (response.model_name, response.id) == (MODEL, "mine")
    told = response.parameters
    assert told["finish_reason"].string_param == "length"
    assert (told["prompt_tokens"].int64_param, told["completion_tokens"].int64_param) == (2, 4)


async def test_messages_and_sampling_parameters_are_json(working: Served, stub):
    request = asking(
        "",
        messages=[{"role": "user", "content": "hi"}],
        sampling_parameters={"max_tokens": 9, "stop": ["c"]},
    )
    response = await stub.ModelInfer(request)
    assert text_of(response) == "ab"
    assert [m.content for m in working.cluster.tokenizer.conversations[-1]] == ["hi"]


async def test_a_stream_answers_many_and_goes_on_after_an_error(working: Served, stub):
    async def requests() -> AsyncIterator[Any]:
        yield asking(request_id="one")
        yield asking(request_id="bad", wings="2")
        yield asking(request_id="whole", stream=False)

    texts: dict[str, list[str]] = {}
    finals, errors = [], []
    async for message in stub.ModelStreamInfer(requests(), timeout=10):
        response = message.infer_response
        if message.error_message:
            errors.append((response.id, message.error_message))
            continue
        texts.setdefault(response.id, []).append(text_of(response))
        if response.parameters["triton_final_response"].bool_param:
            finals.append(response.id)
    assert "".join(texts["one"]) == "abcd"
    assert len(texts["one"]) > 1
    assert texts["whole"] == ["abcd"]
    assert sorted(finals) == ["one", "whole"]
    ((failed, why),) = errors
    assert failed == "bad"
    assert "wings" in why


async def test_leaving_a_stream_stops_its_requests(served: Served, stub):
    call = stub.ModelStreamInfer()
    await call.write(asking())
    await served.cluster.queue.next_attempt()
    call.cancel()
    assert await served.gateway.intake.wait_idle(timeout_s=5)
    assert len(served.gateway.live_requests) == 0


def with_parameter(name: str, **value: Any) -> Any:
    message = asking()
    message.parameters[name].CopyFrom(pb.InferParameter(**value))
    return message


def broken() -> Any:
    message = asking()
    message.raw_input_contents[0] = b"\x09\x00\x00\x00ab"
    return message


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (asking(""), "text_input"),
        (asking(messages=[]), "text_input"),
        (asking(wings="2"), "wings"),
        (asking(stream=True), "stream"),
        (asking(sampling_parameters="{"), "JSON"),
        (asking(sampling_parameters={"temperature": 3}), "temperature"),
        (with_parameter("unheard_of", int64_param=1), "unheard_of"),
        (with_parameter("temperature", string_param="hot"), "temperature"),
        (broken(), "text_input"),
    ],
)
async def test_bad_input_is_invalid_and_named(served: Served, stub, request_: Any, word: str):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert word in (caught.value.details() or "")


class TestWithKeys:
    @pytest.fixture
    def settings(self) -> GatewaySettings:
        return GatewaySettings(http_port=0, grpc_port=0, auth=AuthMode.REQUIRED)

    async def test_all_but_probes_ask_for_a_key(self, working: Served, stub):
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
        for call in (
            stub.ModelReady(pb.ModelReadyRequest(name=MODEL)),
            stub.ServerMetadata(pb.ServerMetadataRequest()),
            stub.ModelMetadata(pb.ModelMetadataRequest(name=MODEL)),
            stub.ModelInfer(asking()),
            stub.ModelStreamInfer(iter([asking()])).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_limits_and_models_are_those_of_the_other_doors(self, working: Served, stub):
        access = working.cluster.access
        other = access.add_key(models=frozenset({"other"}))
        narrow = access.add_key(limits=Limits(requests_per_min=1))
        for key, code in (
            (other, grpc.StatusCode.PERMISSION_DENIED),
            (narrow, grpc.StatusCode.OK),
            (narrow, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            call = stub.ModelInfer(asking(), metadata=(("authorization", f"Bearer {key}"),))
            assert await call.code() is code
        ready = pb.ModelReadyRequest(name=MODEL)
        metadata = (("authorization", f"Bearer {other}"),)
        assert not (await stub.ModelReady(ready, metadata=metadata)).ready
