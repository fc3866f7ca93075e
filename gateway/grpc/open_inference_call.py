"""A request in the Open Inference Protocol as an ask: which tensors and parameters mean what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.ask import ChatPrompt, Prompt, TextPrompt
from gateway.http.body import decode_body
from gateway.http.messages import MessageFields, messages_of
from gateway.http.sampling_fields import SamplingFields, request_class_of, sampling_of
from services.core.errors import InvalidRequest, NotFound
from services.core.request import RequestClass
from services.core.sampling import SamplingParams
from services.wire.open_inference import InferCall, TensorDescription

VERSION = "1"
OUTPUT = "text_output"
INPUTS = (
    TensorDescription("text_input", "BYTES"),
    TensorDescription("messages", "BYTES"),
    TensorDescription("sampling_parameters", "BYTES"),
    TensorDescription("stream", "BOOL"),
)
_KNOWN_INPUTS = {tensor.name for tensor in INPUTS}
# What Triton's client adds by itself, and how streams end here anyway.
_IGNORED_PARAMETERS = ("triton_enable_empty_final_response",)
_SAMPLING_DECODER = msgspec.json.Decoder(SamplingFields)
_OBJECT_DECODER = msgspec.json.Decoder(dict[str, Any])
_MESSAGES_DECODER = msgspec.json.Decoder(list[MessageFields])


@dataclass(frozen=True, slots=True)
class InferAsk:
    """What a call asks for; `stream` is None if it does not say."""

    prompt: Prompt
    sampling: SamplingParams
    request_class: RequestClass
    stream: bool | None


def read_call(call: InferCall) -> InferAsk:
    """What a call asks for.

    Sampling is the JSON object in `sampling_parameters`, and the request's parameters, which win;
    both take the names of our HTTP routes.

    Raises:
        NotFound: no such version.
        InvalidRequest: names the tensor or parameter.
    """
    check_version(call.version)
    _check_names(call)
    fields = _sampling_fields(call)
    stream = _one(call, "stream")
    return InferAsk(
        prompt=_prompt(call),
        sampling=sampling_of(fields, max_tokens=fields.max_tokens),
        request_class=request_class_of(fields),
        stream=fields.stream if stream is None else bool(stream),
    )


def check_version(version: str) -> None:
    """Refuses a version other than the only one.

    Raises:
        NotFound: names it.
    """
    if version not in ("", VERSION):
        raise NotFound(
            f"model_version is {version[:64]!r}; there is: {VERSION}", field="model_version"
        )


def _check_names(call: InferCall) -> None:
    for name in call.inputs:
        if name not in _KNOWN_INPUTS:
            known = ", ".join(sorted(_KNOWN_INPUTS))
            raise InvalidRequest(f"input {name[:64]!r} is unknown; allowed: {known}", field=name)
    for name in call.outputs:
        if name != OUTPUT:
            raise InvalidRequest(f"output {name[:64]!r} is unknown; allowed: {OUTPUT}", field=name)


def _prompt(call: InferCall) -> Prompt:
    text, messages = _one(call, "text_input"), _one(call, "messages")
    if (text is None) == (messages is None):
        raise InvalidRequest(
            "exactly one of the inputs text_input and messages must be given", field="text_input"
        )
    if messages is not None:
        content = _bytes(messages, "messages")
        return ChatPrompt(messages_of(decode_body(_MESSAGES_DECODER, content)))
    return TextPrompt(_text(text, "text_input"), field="text_input")


def _sampling_fields(call: InferCall) -> SamplingFields:
    given: dict[str, Any] = {}
    content = _one(call, "sampling_parameters")
    if content is not None:
        parsed = decode_body(_OBJECT_DECODER, _bytes(content, "sampling_parameters"))
        given.update(parsed)
    given.update(
        (name, value) for name, value in call.parameters.items() if name not in _IGNORED_PARAMETERS
    )
    # Through JSON once more, so that errors name fields as on every other route.
    return decode_body(_SAMPLING_DECODER, msgspec.json.encode(given))


def _one(call: InferCall, name: str) -> bytes | bool | None:
    elements = call.inputs.get(name)
    if elements is None:
        return None
    if len(elements) != 1:
        raise InvalidRequest(f"{name} has {len(elements)} elements; allowed: 1", field=name)
    return elements[0]


def _bytes(element: bytes | bool, name: str) -> bytes:
    if isinstance(element, bool):
        raise InvalidRequest(f"{name} has the datatype BOOL; allowed: BYTES", field=name)
    return element


def _text(element: bytes | bool | None, name: str) -> str:
    try:
        return _bytes(element or b"", name).decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{name} is not UTF-8", field=name) from exc
