"""Replies in the OpenAI wire format, chat and text alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

import msgspec

from gateway.ask import Piece
from gateway.http.sse import DONE, event
from services.core.request import FinishReason, Usage


class PromptTokensDetails(msgspec.Struct):
    """What of the prompt was not computed anew."""

    cached_tokens: int


class UsageFields(msgspec.Struct):
    """`usage`."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def usage_fields(usage: Usage | None) -> UsageFields:
    """Usage as the wire format has it."""
    usage = usage or Usage()
    return UsageFields(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(usage.cached_tokens),
    )


class OpenaiWriter(ABC):
    """Writes chunks as text around the encoded delta: their frame never changes in an answer.

    Subclasses say how a choice looks.

    Args:
        reply_id: `id`.
        kind: `object` of a whole reply.
        chunk_kind: `object` of a chunk.
        model: `model`.
        include_usage: a last chunk with usage and no choice; the others say `"usage":null`.
        return_token_ids: `token_ids` in each choice.
    """

    def __init__(
        self,
        *,
        reply_id: str,
        kind: str,
        chunk_kind: str,
        model: str,
        include_usage: bool,
        return_token_ids: bool,
    ) -> None:
        self._reply_id, self._kind, self._model = reply_id, kind, model
        self._created = int(time.time())
        self._include_usage = include_usage
        self._return_token_ids = return_token_ids
        head = {"id": reply_id, "object": chunk_kind, "created": self._created, "model": model}
        self._open = msgspec.json.encode(head)[:-1] + b',"choices":['
        self._close = b'],"usage":null}' if include_usage else b"]}"
        self._has_begun = False

    def events(self, piece: Piece) -> bytes:
        """Chunks of one piece: opening before the first, delta, finish, usage, [DONE]."""
        token_ids = piece.token_ids if self._return_token_ids else None
        out: list[bytes] = []
        if piece.text or token_ids or piece.finish_reason is not None:
            if not self._has_begun:
                self._has_begun = True
                out.extend(self._chunk(choice) for choice in self.opening())
            if piece.text or token_ids:
                out.append(self._chunk(self.delta(piece.text, token_ids)))
        if piece.finish_reason is not None:
            out.append(self._chunk(self.finish(piece.finish_reason)))
            if self._include_usage:
                usage = msgspec.json.encode(usage_fields(piece.usage))
                out.append(event(self._open + b'],"usage":' + usage + b"}"))
            out.append(DONE)
        return b"".join(out)

    def whole(self, text: str, token_ids: tuple[int, ...], last: Piece) -> bytes:
        """The whole reply."""
        reason = last.finish_reason or FinishReason.STOP
        shown = token_ids if self._return_token_ids else None
        return msgspec.json.encode(
            {
                "id": self._reply_id,
                "object": self._kind,
                "created": self._created,
                "model": self._model,
                "choices": [msgspec.Raw(self.choice(text, shown, reason))],
                "usage": usage_fields(last.usage),
            }
        )

    def opening(self) -> tuple[bytes, ...]:
        """Choices of the chunks before the first delta."""
        return ()

    @abstractmethod
    @abstractmethod
    def delta(self, text: str, token_ids: tuple[int, ...] | None) -> bytes:
        """Choice with new text."""
        ...

    @abstractmethod
    @abstractmethod
    def finish(self, reason: FinishReason) -> bytes:
        """Choice that says the end."""
        ...

    @abstractmethod
    @abstractmethod
    def choice(self, text: str, token_ids: tuple[int, ...] | None, reason: FinishReason) -> bytes:
        """Choice of a whole reply."""
        ...

    def _chunk(self, choice: bytes) -> bytes:
        return event(self._open + choice + self._close)


def token_ids_member(token_ids: tuple[int, ...] | None) -> bytes:
    """`,"token_ids":[...]`, or nothing."""
    return b"" if token_ids is None else b',"token_ids":' + msgspec.json.encode(token_ids)
