"""Replies and errors in Anthropic's wire format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.ask import Piece
from gateway.http.openai_wire import usage_of
from gateway.http.sse import TEXT_MARK, around_mark, named_event
from gateway.requests.answer import Answer
from services.core.errors import TokenmillError
from services.core.request import FinishReason, Usage
from services.wire.errors import public_message, row_of

_PING = named_event("ping", b'{"type":"ping"}')


def anthropic_error_body(error: BaseException) -> bytes:
    """JSON of an error; a bug's text stays in the log."""
    return msgspec.json.encode(
        {"type": "error", "error": {"type": _error_type(error), "message": _message(error)}}
    )


def anthropic_error_event(error: BaseException) -> bytes:
    """An error after the stream has begun."""
    return named_event("error", anthropic_error_body(error))


class MessageWriter:
    """One text block.

    Args:
        message_id: `id`.
        model: `model`.
    """

    def __init__(self, message_id: str, model: str) -> None:
        self._message_id, self._model = message_id, model
        self._num_prompt_tokens = 0
        self._has_begun = False

    def begin(self, answer: Answer) -> None:
        """Learns the length of the prompt, which the first event tells."""
        self._num_prompt_tokens = answer.num_prompt_tokens

    def events(self, piece: Piece) -> bytes:
        """Start of message and block before the first text; stop, delta with usage at the end."""
        out: list[bytes] = []
        if not self._has_begun:
            self._has_begun = True
            out += [self._start(), _block_start(), _PING]
        if piece.text:
            out.append(_block_delta(piece.text))
        if piece.finish_reason is not None:
            out.append(_event("content_block_stop", index=0))
            usage = _usage_fields(piece.usage)
            out.append(_event("message_delta", delta=_stop_fields(piece), usage=usage))
            out.append(_event("message_stop"))
        return b"".join(out)

    def around_text(self, choice_idx: int) -> tuple[bytes, bytes] | None:
        """What an event in the middle has around its text."""
        return around_mark(_block_delta(TEXT_MARK))

    def whole(self, choices: Sequence[Piece]) -> bytes:
        """The whole message."""
        piece = choices[0]
        content = [{"type": "text", "text": piece.text}]
        usage = _usage_fields(usage_of(choices))
        return msgspec.json.encode(self._message(content, _stop_fields(piece), usage))

    def _start(self) -> bytes:
        nothing: dict[str, str | None] = {"stop_reason": None, "stop_sequence": None}
        usage = _usage_fields(Usage(prompt_tokens=self._num_prompt_tokens))
        return _event("message_start", message=self._message([], nothing, usage))

    def _message(
        self, content: list[dict[str, str]], stop: dict[str, str | None], usage: dict[str, int]
    ) -> dict[str, Any]:
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            **stop,
            "usage": usage,
        }


def _block_start() -> bytes:
    return _event("content_block_start", index=0, content_block={"type": "text", "text": ""})


def _block_delta(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return _event("content_block_delta", index=0, delta=delta)


def _event(kind: str, **fields: Any) -> bytes:
    return named_event(kind, msgspec.json.encode({"type": kind, **fields}))


def _stop_fields(piece: Piece) -> dict[str, str | None]:
    if piece.finish_reason is FinishReason.LENGTH:
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if piece.stop_string:
        return {"stop_reason": "stop_sequence", "stop_sequence": piece.stop_string}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _usage_fields(usage: Usage | None) -> dict[str, int]:
    """Anthropic counts cached tokens apart from the others."""
    usage = usage or Usage()
    fields = {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
    return {**fields, "result_cached": True} if usage.is_result_cached else fields


def _error_type(error: BaseException) -> str:
    if isinstance(error, TokenmillError):
        return row_of(error).anthropic_type
    status = getattr(error, "status_code", None)
    return "api_error" if status is None else "invalid_request_error"


def _message(error: BaseException) -> str:
    return getattr(error, "detail", None) or public_message(error)
