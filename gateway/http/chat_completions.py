"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.ask import Ask, ChatPrompt
from gateway.catalog import Catalog
from gateway.http.answering import Exchange, RequestHead
from gateway.http.body import decode_body
from gateway.http.messages import MessageFields, messages_of
from gateway.http.openai_wire import OpenaiWriter, token_ids_member
from gateway.http.sampling_fields import (
    SamplingFields,
    refuse_unsupported,
    request_class_of,
    sampling_of,
)
from services.core.errors import InvalidRequest
from services.core.request import FinishReason

_NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
}


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`stream_options`; padding against traffic analysis is not added, and none is needed."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatCompletionFields(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    """The body."""

    messages: list[MessageFields]
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | None = None

    top_logprobs: Any = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    web_search_options: Any = None


_DECODER = msgspec.json.Decoder(ChatCompletionFields)


class ChatCompletions:
    """Parses bodies of this route."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def parse(self, body: bytes, head: RequestHead) -> Exchange:
        """Body to exchange.

        Raises:
            InvalidRequest: names the field.
        """
        call = decode_body(_DECODER, body)
        refuse_unsupported(call, _NEUTRAL_VALUES)
        model = self._catalog.find(call.model or "").name
        ask = Ask(
            request_id=head.request_id,
            caller=head.caller,
            prompt=ChatPrompt(messages_of(call.messages)),
            deadline_unix_ms=head.deadline_unix_ms,
            model=model,
            sampling=sampling_of(call, max_tokens=_max_tokens(call)),
            request_class=request_class_of(call),
            stream=bool(call.stream),
        )
        options = call.stream_options or StreamOptions()
        writer = ChatWriter(
            reply_id=f"chatcmpl-{head.request_id}",
            kind="chat.completion",
            chunk_kind="chat.completion.chunk",
            model=model,
            include_usage=bool(options.include_usage),
            return_token_ids=bool(call.return_token_ids),
        )
        return Exchange(ask, writer)


class ChatWriter(OpenaiWriter):
    """Choices of chat replies."""

    def opening(self) -> tuple[bytes, ...]:
        """The role, in a chunk of its own."""
        return (
            b'{"index":0,"delta":{"role":"assistant","content":"","refusal":null}'
            b',"logprobs":null,"finish_reason":null}',
        )

    def delta(self, text: str, token_ids: tuple[int, ...] | None) -> bytes:
        """New text."""
        content = b'{"content":' + msgspec.json.encode(text) + b"}"
        return (
            b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":null' % content
            + token_ids_member(token_ids)
            + b"}"
        )

    def finish(self, reason: FinishReason) -> bytes:
        """An empty delta with the reason."""
        return b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"%b"}' % (
            reason.value.encode()
        )

    def choice(self, text: str, token_ids: tuple[int, ...] | None, reason: FinishReason) -> bytes:
        """The whole message."""
        message = {"role": "assistant", "content": text, "refusal": None}
        return (
            b'{"index":0,"message":%b,"logprobs":null,"finish_reason":"%b"'
            % (msgspec.json.encode(message), reason.value.encode())
            + token_ids_member(token_ids)
            + b"}"
        )


def _max_tokens(call: ChatCompletionFields) -> int | None:
    old, new = call.max_tokens, call.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            f"max_completion_tokens is {new}, max_tokens is {old}; allowed: one of them",
            field="max_completion_tokens",
        )
    return old if new is None else new
