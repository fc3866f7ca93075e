"""Replies in the OpenAI wire format, chat and text alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from gateway.ask import Piece
from gateway.http.sse import DONE, TEXT_MARK, around_mark, event
from gateway.requests.answer import Answer
from services.core.request import FinishReason, Usage


class PromptTokensDetails(msgspec.Struct):
    """What of the prompt was not computed anew."""

    cached_tokens: int


class UsageFields(msgspec.Struct, omit_defaults=True):
    """`usage`; result_cached, which is ours, is told only of kept answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    result_cached: bool = False


def usage_fields(usage: Usage | None) -> UsageFields:
    """Usage as the wire format has it."""
    usage = usage or Usage()
    return UsageFields(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(usage.cached_tokens),
        result_cached=usage.is_result_cached,
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
        tells_usage_so_far: the others say what was used so far instead.
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
        tells_usage_so_far: bool,
        return_token_ids: bool,
    ) -> None:
        self._reply_id, self._kind, self._model = reply_id, kind, model
        self._created = int(time.time())
        self._include_usage = include_usage
        self._return_token_ids = return_token_ids
        head = {"id": reply_id, "object": chunk_kind, "created": self._created, "model": model}
        self._open = msgspec.json.encode(head)[:-1] + b',"choices":['
        self._close = b'],"usage":null}' if include_usage else b"]}"
        self._begun: set[int] = set()
        self._used = Usage() if tells_usage_so_far else None

    def begin(self, answer: Answer) -> None:
        """Learns the length of the prompt."""
        if self._used is not None:
            self._used = Usage(prompt_tokens=answer.num_prompt_tokens)

    def events(self, piece: Piece) -> bytes:
        """Chunks of one piece: opening before a choice's first, delta, finish, usage, [DONE]."""
        out: list[bytes] = []
        if self._used is not None:
            num_tokens = self._used.completion_tokens + len(piece.token_ids)
            self._used = replace(self._used, completion_tokens=num_tokens)
            self._close = b'],"usage":%b}' % msgspec.json.encode(usage_fields(self._used))
        has_news = piece.text or piece.logprobs or (piece.token_ids and self._return_token_ids)
        if has_news or piece.finish_reason is not None:
            if piece.choice_idx not in self._begun:
                self._begun.add(piece.choice_idx)
                out.extend(self._chunk(choice) for choice in self.opening(piece))
            if has_news:
                out.append(self._chunk(self.delta(piece)))
        if piece.finish_reason is not None:
            out.append(self._chunk(self.finish(piece, piece.finish_reason)))
        if piece.usage is not None:
            if self._include_usage:
                usage = msgspec.json.encode(usage_fields(piece.usage))
                out.append(event(self._open + b'],"usage":' + usage + b"}"))
            out.append(DONE)
        return b"".join(out)

    def around_text(self, choice_idx: int) -> tuple[bytes, bytes] | None:
        """What a chunk in the middle has around its text."""
        if self._return_token_ids or self._used is not None:
            return None
        return around_mark(self._chunk(self.delta(Piece(TEXT_MARK, choice_idx=choice_idx))))

    def whole(self, choices: Sequence[Piece]) -> bytes:
        """The whole reply."""
        return msgspec.json.encode(
            {
                "id": self._reply_id,
                "object": self._kind,
                "created": self._created,
                "model": self._model,
                "choices": [msgspec.Raw(self.choice(piece)) for piece in choices],
                "usage": usage_fields(usage_of(choices)),
            }
        )

    def opening(self, piece: Piece) -> tuple[bytes, ...]:
        """Choices of the chunks before the first delta of the piece's choice."""
        return ()

    @abstractmethod
    def delta(self, piece: Piece) -> bytes:
        """Choice with new text."""
        ...

    @abstractmethod
    def finish(self, piece: Piece, reason: FinishReason) -> bytes:
        """Choice that says the end."""
        ...

    @abstractmethod
    def choice(self, piece: Piece) -> bytes:
        """Choice of a whole reply."""
        ...

    def token_ids_member(self, piece: Piece) -> bytes:
        """`,"token_ids":[...]`, or nothing if they are not asked for."""
        if not self._return_token_ids:
            return b""
        return b',"token_ids":' + msgspec.json.encode(piece.token_ids)

    def _chunk(self, choice: bytes) -> bytes:
        return event(self._open + choice + self._close)


def usage_of(choices: Sequence[Piece]) -> Usage | None:
    """Usage of a whole answer: whichever choice ended last has it."""
    return next((piece.usage for piece in choices if piece.usage is not None), None)
