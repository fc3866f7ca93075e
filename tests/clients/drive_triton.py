"""`tritonclient` against a cluster, by the Open Inference Protocol: `make client-triton`."""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import queue
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from checks import check, main, raised, target

TARGET = target()
CLIENT = triton.InferenceServerClient(TARGET.grpc_target)
AUTH = {"authorization": f"Bearer {TARGET.key}"}
FEW = {"max_tokens": 12, "temperature": 0.0}
ASKED = "One, two,"


def tensors(text: str = ASKED, **more: str) -> list[Any]:
    return [tensor(name, value) for name, value in {"text_input": text, **more}.items() if value]


def tensor(name: str, value: str) -> Any:
    made = triton.InferInput(name, [1], "BYTES")
    made.set_data_from_numpy(np.array([value.encode()], dtype=object))
    return made


def infer(inputs: list[Any], **more: Any) -> Any:
    asked = {"headers": AUTH, "parameters": FEW, **more}
    return CLIENT.infer(TARGET.model, inputs, **asked)


def text_of(result: Any) -> str:
    return result.as_numpy("text_output")[0].decode()


@check
def the_server_is_live_and_ready_and_has_the_model():
    assert CLIENT.is_server_live()
    assert CLIENT.is_server_ready()
    assert CLIENT.is_model_ready(TARGET.model, headers=AUTH)
    assert not CLIENT.is_model_ready("none", headers=AUTH)
    assert CLIENT.get_server_metadata(headers=AUTH).name == "tokenmill"
    metadata = CLIENT.get_model_metadata(TARGET.model, headers=AUTH, as_json=True)
    assert {"name": "text_input", "datatype": "BYTES", "shape": ["1"]} in metadata["inputs"]


@check
def infer_answers_whole():
    result = infer(tensors(), request_id="mine")
    assert text_of(result)
    response = result.get_response()
    assert response.id == "mine"
    assert response.parameters["completion_tokens"].int64_param == 12


@check
def infer_takes_messages_and_json_sampling():
    said = json.dumps([{"role": "user", "content": "Name a colour."}])
    sampling = json.dumps({"max_tokens": 8, "temperature": 0, "stop": ["\n"]})
    assert text_of(infer(tensors("", messages=said, sampling_parameters=sampling), parameters={}))


@check
def a_stream_says_the_same_in_pieces():
    whole = text_of(infer(tensors()))
    came: queue.Queue[Any] = queue.Queue()
    CLIENT.start_stream(lambda result, error: came.put((result, error)), headers=AUTH)
    texts: dict[str, list[str]] = {"a": [], "b": []}
    for request_id in texts:
        CLIENT.async_stream_infer(
            TARGET.model, tensors(), request_id=request_id, parameters=FEW,
            enable_empty_final_response=True,
        )  # fmt: skip
    num_running = len(texts)
    while num_running:
        result, error = came.get(timeout=60)
        assert error is None, error
        response = result.get_response()
        texts[response.id].append(text_of(result))
        num_running -= response.parameters["triton_final_response"].bool_param
    CLIENT.stop_stream()
    assert all(len(pieces) > 1 for pieces in texts.values())
    assert {"".join(pieces) for pieces in texts.values()} == {whole}


@check
def an_error_on_a_stream_comes_to_its_callback():
    came: queue.Queue[Any] = queue.Queue()
    CLIENT.start_stream(lambda result, error: came.put((result, error)), headers=AUTH)
    CLIENT.async_stream_infer(TARGET.model, tensors(wings="2"), request_id="bad")
    _, error = came.get(timeout=60)
    CLIENT.stop_stream()
    assert "wings" in error.message()


@check
async def the_async_client_infers_and_streams():
    async def requests() -> Any:
        yield {
            "model_name": TARGET.model, "inputs": tensors(), "request_id": "a", "parameters": FEW,
        }  # fmt: skip

    async with triton_aio.InferenceServerClient(TARGET.grpc_target) as client:
        whole = await client.infer(TARGET.model, tensors(), parameters=FEW, headers=AUTH)
        pieces = []
        async for result, error in client.stream_infer(requests(), headers=AUTH):
            assert error is None
            pieces.append(text_of(result))
    assert "".join(pieces) == text_of(whole)


@check
def errors_have_the_status_of_grpc():
    for status, work in (
        ("UNAUTHENTICATED", lambda: infer(tensors(), headers={"authorization": "Bearer tm-x"})),
        ("NOT_FOUND", lambda: CLIENT.infer("none", tensors(), headers=AUTH)),
        ("INVALID_ARGUMENT", lambda: infer(tensors(), parameters={"temperature": 3.0})),
        ("INVALID_ARGUMENT", lambda: infer(tensors(), parameters={"unheard_of": 1})),
    ):
        exc = raised(triton.InferenceServerException, work)
        assert exc.status() == f"StatusCode.{status}", exc.status()


main()
