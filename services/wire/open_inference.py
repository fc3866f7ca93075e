"""Messages of the Open Inference Protocol v2."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tokenmill.kserve import open_inference_pb2 as pb

from services.core.errors import InvalidRequest

Parameter = bool | int | float | str
Element = bool | bytes
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class TensorDescription:
    """A tensor that a model takes or gives; one of its elements is one request's."""

    name: str
    datatype: str
    shape: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True)
class InferCall:
    """Asks a model.

    Attributes:
        inputs: elements by tensor name.
        outputs: names of the tensors that are wanted; empty: all.
        is_raw: tensors came as raw bytes, and go back so.
    """

    model: str
    version: str
    request_id: str
    parameters: Mapping[str, Parameter]
    inputs: Mapping[str, tuple[Element, ...]]
    outputs: tuple[str, ...]
    is_raw: bool


@dataclass(frozen=True, slots=True)
class InferPart:
    """An answer, or a piece of it: one BYTES tensor."""

    model: str
    version: str
    request_id: str
    output: str
    text: str
    is_raw: bool = True
    parameters: Mapping[str, Parameter] = field(default_factory=dict[str, Parameter])


def infer_request_from_pb(message: pb.ModelInferRequest) -> InferCall:
    """Call as received.

    Raises:
        InvalidRequest: names the tensor that cannot be read.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequest(
            f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs",
            field="raw_input_contents",
        )
    inputs: dict[str, tuple[Element, ...]] = {}
    for idx, tensor in enumerate(message.inputs):
        elements = _from_raw(tensor, raw[idx]) if raw else _from_contents(tensor)
        if tensor.name in inputs:
            raise InvalidRequest(f"{tensor.name[:64]} is given twice", field=tensor.name[:64])
        inputs[tensor.name] = elements
    return InferCall(
        model=message.model_name,
        version=message.model_version,
        request_id=message.id,
        parameters={name: _value(value, name) for name, value in message.parameters.items()},
        inputs=inputs,
        outputs=tuple(output.name for output in message.outputs),
        is_raw=bool(raw),
    )


def infer_response_to_pb(part: InferPart) -> pb.ModelInferResponse:
    """Answer as sent."""
    content = part.text.encode()
    message = pb.ModelInferResponse(
        model_name=part.model, model_version=part.version, id=part.request_id
    )
    output = message.outputs.add(name=part.output, datatype="BYTES", shape=[1])
    if part.is_raw:
        message.raw_output_contents.append(_LENGTH.pack(len(content)) + content)
    else:
        output.contents.bytes_contents.append(content)
    for name, value in part.parameters.items():
        message.parameters[name].CopyFrom(_parameter(value))
    return message


def stream_part_to_pb(part: InferPart) -> pb.ModelStreamInferResponse:
    """Piece of an answer as sent on a stream."""
    return pb.ModelStreamInferResponse(infer_response=infer_response_to_pb(part))


def stream_error_to_pb(request_id: str, message: str, reason: str) -> pb.ModelStreamInferResponse:
    """What is said of a request on a stream that failed; the others go on."""
    response = pb.ModelInferResponse(id=request_id)
    response.parameters["error_reason"].CopyFrom(_parameter(reason))
    return pb.ModelStreamInferResponse(error_message=message, infer_response=response)


def server_live_to_pb(live: bool) -> pb.ServerLiveResponse:
    """Whether the server runs."""
    return pb.ServerLiveResponse(live=live)


def server_ready_to_pb(ready: bool) -> pb.ServerReadyResponse:
    """Whether the server takes requests."""
    return pb.ServerReadyResponse(ready=ready)


def model_ready_to_pb(ready: bool) -> pb.ModelReadyResponse:
    """Whether a model takes requests."""
    return pb.ModelReadyResponse(ready=ready)


def server_metadata_to_pb(name: str, version: str) -> pb.ServerMetadataResponse:
    """What the server is."""
    return pb.ServerMetadataResponse(name=name, version=version, extensions=["model_stream_infer"])


def model_metadata_to_pb(
    name: str, versions: Sequence[str], inputs: Sequence[TensorDescription], output: str
) -> pb.ModelMetadataResponse:
    """A model's tensors."""
    tensor = pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=name,
        versions=versions,
        platform="tokenmill",
        inputs=[tensor(name=one.name, datatype=one.datatype, shape=one.shape) for one in inputs],
        outputs=[tensor(name=output, datatype="BYTES", shape=[1])],
    )


def _from_contents(tensor: pb.ModelInferRequest.InferInputTensor) -> tuple[Element, ...]:
    match tensor.datatype:
        case "BYTES":
            return tuple(tensor.contents.bytes_contents)
        case "BOOL":
            return tuple(tensor.contents.bool_contents)
        case _:
            raise _unknown_type(tensor)


def _from_raw(tensor: pb.ModelInferRequest.InferInputTensor, content: bytes) -> tuple[Element, ...]:
    match tensor.datatype:
        case "BYTES":
            return _byte_elements(content, tensor.name)
        case "BOOL":
            return tuple(byte != 0 for byte in content)
        case _:
            raise _unknown_type(tensor)


def _byte_elements(content: bytes, name: str) -> tuple[Element, ...]:
    elements: list[bytes] = []
    at = 0
    while at < len(content):
        start = at + _LENGTH.size
        if start > len(content):
            raise _broken(name)
        (length,) = _LENGTH.unpack_from(content, at)
        at = start + length
        if at > len(content):
            raise _broken(name)
        elements.append(content[start:at])
    return tuple(elements)


def _broken(name: str) -> InvalidRequest:
    name = name[:64]
    return InvalidRequest(f"{name} ends within an element", field=name)


def _unknown_type(tensor: pb.ModelInferRequest.InferInputTensor) -> InvalidRequest:
    name = tensor.name[:64]
    return InvalidRequest(
        f"{name} has the datatype {tensor.datatype[:32]!r}; allowed: BYTES, BOOL", field=name
    )


def _value(value: pb.InferParameter, name: str) -> Parameter:
    kind = value.WhichOneof("parameter_choice")
    if kind is None:
        raise InvalidRequest(f"parameter {name[:64]} has no value", field=name[:64])
    return getattr(value, kind)


def _parameter(value: Parameter) -> pb.InferParameter:
    match value:
        case bool():
            return pb.InferParameter(bool_param=value)
        case int():
            return pb.InferParameter(int64_param=value)
        case float():
            return pb.InferParameter(double_param=value)
        case str():
            return pb.InferParameter(string_param=value)
