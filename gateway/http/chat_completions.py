"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.ask import ChatPrompt, Piece
from gateway.catalog import Catalog
from gateway.http.answering import Exchange, RequestHead
from gateway.http.body import decode_body
from gateway.http.logprob_fields import ChatLogprobs
from gateway.http.messages import MessageFields, messages_of
from gateway.http.openai_call import (
    OpenaiFields,
    ask_of,
    check_stream_options,
    frame_of,
    num_choices_of,
)
from gateway.http.openai_wire import OpenaiWriter
from gateway.http.sampling_fields import refuse_unsupported, sampling_of
from services.core.errors import InvalidRequest
from services.core.request import FinishReason

NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
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
    "moderation": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory",),
}


class ChatCompletionFields(OpenaiFields, kw_only=True, forbid_unknown_fields=True):
    """The body."""

    messages: list[MessageFields]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

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
    moderation: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None


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
        refuse_unsupported(call, NEUTRAL_VALUES)
        check_stream_options(call.stream_options, call.stream)
        served = self._catalog.find(call.model or "")
        model = served.name
        ask = ask_of(
            call,
            head,
            (ChatPrompt(messages_of(call.messages)),),
            sampling_of(call, max_tokens=_max_tokens(call), logprobs=_num_logprobs(call)),
            model=model,
            stream=bool(call.stream),
            num_choices=num_choices_of(call.n),
        )
        writer = ChatWriter(
            ChatLogprobs(served.loaded.vocabulary),
            reply_id=f"chatcmpl-{head.request_id}",
            kind="chat.completion",
            chunk_kind="chat.completion.chunk",
            **frame_of(call, model),
        )
        spelt = {"logprobs": "top_logprobs"}
        if call.max_completion_tokens is not None:
            spelt["max_tokens"] = "max_completion_tokens"
        return Exchange(ask, writer, begin=writer.begin, spelt=spelt)


class ChatWriter(OpenaiWriter):
    """Choices of chat replies."""

    def __init__(self, logprobs: ChatLogprobs, **frame: Any) -> None:
        super().__init__(**frame)
        self._logprobs = logprobs

    def opening(self, piece: Piece) -> tuple[bytes, ...]:
        """The role, in a chunk of its own."""
        return (
            b'{"index":%d,"delta":{"role":"assistant","content":"","refusal":null}'
            b',"logprobs":null,"finish_reason":null}' % piece.choice_idx,
        )

    def delta(self, piece: Piece) -> bytes:
        """New text."""
        return b'{"index":%d,"delta":{"content":%b},"logprobs":%b,"finish_reason":null%b}' % (
            piece.choice_idx,
            msgspec.json.encode(piece.text),
            self._logprobs.member(piece),
            self.token_ids_member(piece),
        )

    def finish(self, piece: Piece, reason: FinishReason) -> bytes:
        """An empty delta with the reason."""
        return b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}' % (
            piece.choice_idx,
            reason.value.encode(),
        )

    def choice(self, piece: Piece) -> bytes:
        """The whole message."""
        message = {"role": "assistant", "content": piece.text, "refusal": None}
        reason = piece.finish_reason or FinishReason.STOP
        return b'{"index":%d,"message":%b,"logprobs":%b,"finish_reason":"%b"%b}' % (
            piece.choice_idx,
            msgspec.json.encode(message),
            self._logprobs.member(piece),
            reason.value.encode(),
            self.token_ids_member(piece),
        )


def _num_logprobs(call: ChatCompletionFields) -> int | None:
    if call.logprobs:
        return call.top_logprobs or 0
    if call.top_logprobs:
        raise InvalidRequest(
            f"top_logprobs is {call.top_logprobs}; allowed with logprobs only",
            field="top_logprobs",
        )
    return None


def _max_tokens(call: ChatCompletionFields) -> int | None:
    old, new = call.max_tokens, call.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            f"max_completion_tokens is {new}, max_tokens is {old}; allowed: one of them",
            field="max_completion_tokens",
        )
    return old if new is None else new
