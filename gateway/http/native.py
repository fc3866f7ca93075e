"""POST /api/v1/inference/generate and POST /api/chat/message.

Both stream unless the body says `"stream": false`. Events are
`data: {"request_id", "text", "finish_reason"}`; the last has `finish_reason` and `usage`, and
`data: [DONE]` follows. Without streaming the reply is one such object with the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.ask import ChatPrompt, Piece, Prompt
from gateway.catalog import Catalog
from gateway.http.answering import Exchange, RequestHead
from gateway.http.body import decode_body
from gateway.http.completions import prompt_of
from gateway.http.messages import MessageFields, messages_of
from gateway.http.openai_call import ask_of
from gateway.http.openai_wire import usage_fields
from gateway.http.sampling_fields import SamplingFields, refuse_unsupported, sampling_of
from gateway.http.sse import DONE, TEXT_MARK, around_mark, event
from gateway.sessions.history import check_session_id, new_session_id
from services.core.errors import InvalidRequest
from services.core.request import ChatMessage

SESSION_HEADER = "X-Session-ID"
# One answer and plain text: what these routes are for.
NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {"n": (1,), "logprobs": (False,)}


class NativeFields(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    """What both bodies have."""

    n: Any = None
    logprobs: Any = None


class GenerateFields(NativeFields, kw_only=True, forbid_unknown_fields=True):
    """Body of /api/v1/inference/generate: exactly one of prompt and messages."""

    prompt: str | list[str | int | list[int]] | None = None
    messages: list[MessageFields] | None = None


class ChatMessageFields(NativeFields, kw_only=True, forbid_unknown_fields=True):
    """Body of /api/chat/message."""

    message: str


_GENERATE_DECODER = msgspec.json.Decoder(GenerateFields)
_MESSAGE_DECODER = msgspec.json.Decoder(ChatMessageFields)


class NativeRoutes:
    """Parses bodies of both routes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def parse_generate(self, body: bytes, head: RequestHead) -> Exchange:
        """Body of /api/v1/inference/generate to exchange.

        Raises:
            InvalidRequest: names the field.
        """
        call = decode_body(_GENERATE_DECODER, body)
        return self._exchange(call, _prompt_of(call), head, session_id="")

    def parse_message(self, body: bytes, head: RequestHead) -> Exchange:
        """Body of /api/chat/message to exchange; a request without session begins one.

        Raises:
            InvalidRequest: names the field, or the session header.
        """
        call = decode_body(_MESSAGE_DECODER, body)
        if not call.message:
            raise InvalidRequest("message is empty; give a text", field="message")
        session_id = head.headers.get(SESSION_HEADER.lower())
        begins_session = session_id is None
        if session_id is None:
            session_id = new_session_id()
        check_session_id(session_id, field=SESSION_HEADER)
        prompt = ChatPrompt((ChatMessage("user", call.message),), field="message")
        return self._exchange(
            call, prompt, head, session_id=session_id, begins_session=begins_session
        )

    def _exchange(
        self,
        call: NativeFields,
        prompt: Prompt,
        head: RequestHead,
        *,
        session_id: str,
        begins_session: bool = False,
    ) -> Exchange:
        refuse_unsupported(call, NEUTRAL_VALUES)
        model = self._catalog.find(call.model or "").name
        ask = ask_of(
            call,
            head,
            (prompt,),
            sampling_of(call, max_tokens=call.max_tokens),
            model=model,
            session_id=session_id,
            begins_session=begins_session,
            stream=call.stream is not False,
        )
        writer = NativeWriter(
            head.request_id,
            model,
            session_id=session_id,
            return_token_ids=bool(call.return_token_ids),
        )
        headers = [(SESSION_HEADER.lower().encode(), session_id.encode())] if session_id else []
        return Exchange(ask, writer, headers)


class NativeWriter:
    """Our own, plain format."""

    def __init__(
        self, request_id: str, model: str, *, session_id: str, return_token_ids: bool
    ) -> None:
        self._head = {"request_id": request_id}
        if session_id:
            self._head["session_id"] = session_id
        self._model = model
        self._return_token_ids = return_token_ids

    def events(self, piece: Piece) -> bytes:
        """One event per piece; the last carries text too, if there is any."""
        has_tokens = self._return_token_ids and piece.token_ids
        if not piece.text and not has_tokens and piece.finish_reason is None:
            return b""
        events = event(msgspec.json.encode(self._fields(piece)))
        return events if piece.finish_reason is None else events + DONE

    def around_text(self, choice_idx: int) -> tuple[bytes, bytes] | None:
        """What an event in the middle has around its text."""
        return None if self._return_token_ids else around_mark(self.events(Piece(TEXT_MARK)))

    def whole(self, choices: Sequence[Piece]) -> bytes:
        """The whole answer; there is one choice."""
        return msgspec.json.encode({**self._fields(choices[0]), "model": self._model})

    def _fields(self, piece: Piece) -> dict[str, Any]:
        fields: dict[str, Any] = {**self._head, "text": piece.text}
        if self._return_token_ids:
            fields["token_ids"] = piece.token_ids
        reason = piece.finish_reason
        fields["finish_reason"] = None if reason is None else reason.value
        if reason is not None:
            fields["usage"] = usage_fields(piece.usage)
        return fields


def _prompt_of(call: GenerateFields) -> Prompt:
    if (call.prompt is None) == (call.messages is None):
        raise InvalidRequest("exactly one of prompt and messages must be given", field="prompt")
    if call.messages is not None:
        return ChatPrompt(messages_of(call.messages))
    return prompt_of(call.prompt or "")
