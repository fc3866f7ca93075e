"""The body of POST /v1/responses."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.http.body import decode_body, refuse_unless_neutral
from gateway.http.messages import ROLES
from gateway.http.openai_call import StreamOptions, check_stream_options
from gateway.http.sampling_fields import LEAST_TOP_P
from services.core.errors import InvalidRequest
from services.core.request import ChatMessage
from services.core.sampling import SamplingParams


class InputPart(msgspec.Struct, forbid_unknown_fields=True):
    """One part of an item; only text is supported. The others are refused by their type."""

    type: str
    text: str | None = None
    annotations: Any = None
    logprobs: Any = None
    image_url: Any = None
    file_id: Any = None
    file_data: Any = None
    file_url: Any = None
    filename: Any = None
    detail: Any = None
    refusal: Any = None


class InputItem(msgspec.Struct, forbid_unknown_fields=True):
    """A message of the conversation; the fields after type come back of earlier answers."""

    role: str | None = None
    content: str | list[InputPart] | None = None
    type: str = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class ResponseFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body; null is the same as absent. `ignore_eos` is ours, as on the other routes."""

    input: str | list[InputItem]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    ignore_eos: bool | None = None

    access_programs: Any = None
    background_options: Any = None
    context_management: Any = None
    conversation: Any = None
    image: Any = None
    include: Any = None
    max_tool_calls: Any = None
    moderation: Any = None
    parallel_tool_calls: Any = None
    prompt: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    reasoning: Any = None
    service_tier: Any = None
    text: Any = None
    tool_choice: Any = None
    tools: Any = None
    top_logprobs: Any = None
    truncation: Any = None


NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "access_programs": (),
    "background_options": (),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "include": ([],),
    "max_tool_calls": (),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prompt": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory",),
    "reasoning": ({}, {"effort": "none"}),
    "service_tier": ("auto", "default"),
    "text": ({}, {"format": {"type": "text"}}),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}
_DECODER = msgspec.json.Decoder(ResponseFields)


def read_response_call(body: bytes) -> ResponseFields:
    """The body as its struct.

    Raises:
        InvalidRequest: names the field, one that is known but not supported included.
    """
    call = decode_body(_DECODER, body)
    for field, neutral in NEUTRAL_VALUES.items():
        refuse_unless_neutral(field, getattr(call, field), neutral)
    check_stream_options(call.stream_options, call.stream)
    if call.max_output_tokens is not None and call.max_output_tokens < 1:
        raise InvalidRequest(
            f"max_output_tokens is {call.max_output_tokens}; allowed: at least 1",
            field="max_output_tokens",
        )
    if call.background and call.store is False:
        raise InvalidRequest(
            "background needs store: the answer must be kept to be retrieved", field="background"
        )
    if call.background and call.stream:
        raise InvalidRequest(
            "stream is not supported with background; retrieve the response instead", field="stream"
        )
    return call


def input_messages(call: ResponseFields) -> tuple[ChatMessage, ...]:
    """The new messages.

    Raises:
        InvalidRequest: names the item and field.
    """
    if isinstance(call.input, str):
        return (ChatMessage("user", call.input),)
    return tuple(_message(item, f"input[{idx}]") for idx, item in enumerate(call.input))


def sampling_of_response(call: ResponseFields) -> SamplingParams:
    """Sampling as asked."""
    default = SamplingParams()
    return SamplingParams(
        max_tokens=call.max_output_tokens,
        ignore_eos=bool(call.ignore_eos),
        temperature=default.temperature if call.temperature is None else call.temperature,
        top_p=default.top_p if call.top_p is None else call.top_p or LEAST_TOP_P,
    )


def _message(item: InputItem, path: str) -> ChatMessage:
    if item.type != "message":
        raise InvalidRequest(
            f"{path}.type is {item.type[:64]!r}; allowed: message", field=f"{path}.type"
        )
    role = ROLES.get(item.role or "")
    if role is None:
        raise InvalidRequest(
            f"{path}.role is {str(item.role)[:64]!r}; allowed: {', '.join(ROLES)}",
            field=f"{path}.role",
        )
    return ChatMessage(role, _text(item.content, f"{path}.content"))


def _text(content: str | list[InputPart] | None, path: str) -> str:
    if content is None:
        raise InvalidRequest(f"{path} is missing; give a text", field=path)
    if isinstance(content, str):
        return content
    if not content:
        raise InvalidRequest(f"{path} is empty; at least one part is needed", field=path)
    for idx, part in enumerate(content):
        if part.type not in ("input_text", "output_text", "text") or part.text is None:
            raise InvalidRequest(
                f"{path}[{idx}].type is {part.type[:64]!r}; allowed: input_text, output_text, with"
                " text",
                field=f"{path}[{idx}].type",
            )
    return "".join(part.text or "" for part in content)
