"""A response object and its stream of typed events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.ask import Piece
from gateway.http.errors import error_body
from gateway.http.openai_wire import usage_of
from gateway.http.responses.body import ResponseFields
from gateway.http.sse import named_event
from services.core.errors import TokenmillError
from services.core.request import FinishReason, Usage
from services.wire.errors import public_message


def response_object(
    call: ResponseFields, response_id: str, model: str, status: str
) -> dict[str, Any]:
    """A response without output yet."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "background": bool(call.background),
        "error": None,
        "incomplete_details": None,
        "instructions": call.instructions,
        "max_output_tokens": call.max_output_tokens,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": call.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "store": call.store is not False,
        "temperature": 1.0 if call.temperature is None else call.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0 if call.top_p is None else call.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": call.user,
        "metadata": call.metadata or {},
    }


class ResponseWriter:
    """One output message with one text.

    Attributes:
        response: the object as it stands; whole when the last piece was written.
    """

    def __init__(self, response: dict[str, Any], item_id: str) -> None:
        self.response = response
        self._item_id = item_id
        self._num_events = 0
        self._texts: list[str] = []
        self._delta = {"item_id": item_id, "output_index": 0, "content_index": 0, "logprobs": []}

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    def events(self, piece: Piece) -> bytes:
        """Events of one piece."""
        out: list[bytes] = []
        if not self._num_events:
            out += self._opening()
        if piece.text:
            self._texts.append(piece.text)
            out.append(self._event("response.output_text.delta", **self._delta, delta=piece.text))
        if piece.finish_reason is not None:
            self._finish(piece.finish_reason, piece.usage)
            out += self._closing()
        return b"".join(out)

    def around_text(self, choice_idx: int) -> tuple[bytes, bytes] | None:
        """Nothing: events are numbered, and the whole text is told at the end."""
        return None

    def whole(self, choices: Sequence[Piece]) -> bytes:
        """The whole response."""
        self._texts.append(choices[0].text)
        self._finish(choices[0].finish_reason or FinishReason.STOP, usage_of(choices))
        return msgspec.json.encode(self.response)

    def fail(self, error: BaseException) -> None:
        """The answer broke off."""
        self.response["status"] = "failed"
        self.response["error"] = {"code": "server_error", "message": public_message(error)}

    def error_event(self, error: BaseException) -> bytes:
        """What a stream that broke off ends with."""
        self.fail(error)
        detail = msgspec.json.decode(error_body(error))["error"]
        said = self._event(
            "error", code=detail["code"], message=detail["message"], param=detail["param"]
        )
        failed = isinstance(error, TokenmillError)
        return said + self._event("response.failed", response=self.response) if failed else said

    def _opening(self) -> list[bytes]:
        item = {**self._item("in_progress"), "content": []}
        return [
            self._event("response.created", response=self.response),
            self._event("response.in_progress", response=self.response),
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._place(), part=_part("")),
        ]

    def _closing(self) -> list[bytes]:
        status = self.response["status"]
        return [
            self._event("response.output_text.done", **self._place(), text=self.text, logprobs=[]),
            self._event("response.content_part.done", **self._place(), part=_part(self.text)),
            self._event("response.output_item.done", output_index=0, item=self._item(status)),
            self._event(f"response.{status}", response=self.response),
        ]

    def _finish(self, reason: FinishReason, usage: Usage | None) -> None:
        is_cut = reason is FinishReason.LENGTH
        status = "incomplete" if is_cut else "completed"
        self.response["status"] = status
        self.response["incomplete_details"] = {"reason": "max_output_tokens"} if is_cut else None
        self.response["output"] = [self._item(status)]
        self.response["usage"] = _usage_fields(usage or Usage())

    def _item(self, status: str) -> dict[str, Any]:
        return {
            "id": self._item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [_part(self.text)],
        }

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> bytes:
        numbered = {"type": kind, "sequence_number": self._num_events, **fields}
        self._num_events += 1
        return named_event(kind, msgspec.json.encode(numbered))


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage_fields(usage: Usage) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.is_result_cached:
        fields["result_cached"] = True
    return fields
