"""`logprobs` of a choice, in the formats of chat and of text completions."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.ask import Piece
from gateway.text.detokenizer import TokenVocabulary
from services.core.logprobs import TokenLogprobs
from services.core.request import FinishReason

# What the public API says of a token that is all but impossible; JSON knows no infinity.
_LEAST = -9999.0


class ChatLogprobs:
    """`{"content":[{"token","logprob","bytes","top_logprobs"}],"refusal":null}`."""

    def __init__(self, vocabulary: TokenVocabulary) -> None:
        self._vocabulary = vocabulary

    def member(self, piece: Piece) -> bytes:
        """Value of the member; null if the piece has none."""
        if not piece.logprobs:
            return b"null"
        content = [
            {
                **self._token(token_id, entry.logprob),
                "top_logprobs": [
                    self._token(top_id, top_logprob)
                    for top_id, top_logprob in zip(
                        entry.top_token_ids, entry.top_logprobs, strict=True
                    )
                ],
            }
            for token_id, entry in _shown(piece, self._vocabulary)
            if entry is not None
        ]
        return msgspec.json.encode({"content": content, "refusal": None})

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self._vocabulary.token_text(token_id),
            "logprob": max(logprob, _LEAST),
            "bytes": list(self._vocabulary.token_bytes(token_id)),
        }


class CompletionLogprobs:
    """`{"tokens","token_logprobs","top_logprobs","text_offset"}`; counts the characters so far.

    Offsets are into the text of the choice, which begins with the prompt where it is echoed.
    """

    def __init__(self, vocabulary: TokenVocabulary) -> None:
        self._vocabulary = vocabulary
        self._num_chars: dict[int, int] = {}

    def member(self, piece: Piece) -> bytes:
        """Value of the member for the new tokens of a piece; null if it has none."""
        return self._encoded(piece, _shown(piece, self._vocabulary))

    def prompt_member(self, piece: Piece) -> bytes:
        """The same for the prompt that comes with a piece; nothing is known of its first token."""
        return self._encoded(piece, _prompt_of(piece))

    def whole_member(self, piece: Piece) -> bytes:
        """The same for prompt, if there is one, and answer."""
        shown = _shown(piece, self._vocabulary)
        return self._encoded(piece, [*_prompt_of(piece), *shown])

    def _encoded(self, piece: Piece, shown: list[tuple[int, TokenLogprobs | None]]) -> bytes:
        if not shown:
            return b"null"
        tokens: list[str] = []
        offsets: list[int] = []
        num_chars = self._num_chars.get(piece.choice_idx, 0)
        for token_id, _ in shown:
            tokens.append(self._vocabulary.token_text(token_id))
            offsets.append(num_chars)
            num_chars += len(tokens[-1])
        self._num_chars[piece.choice_idx] = num_chars
        logprobs = [None if entry is None else max(entry.logprob, _LEAST) for _, entry in shown]
        tops = [self._top(token_id, entry) for token_id, entry in shown]
        return msgspec.json.encode(
            {
                "tokens": tokens,
                "token_logprobs": logprobs,
                "top_logprobs": tops,
                "text_offset": offsets,
            }
        )

    def _top(self, token_id: int, entry: TokenLogprobs | None) -> dict[str, float] | None:
        if entry is None:
            return None
        # The token itself is always among them, so there may be one more than was asked for.
        top = {self._vocabulary.token_text(token_id): max(entry.logprob, _LEAST)}
        for top_id, top_logprob in zip(entry.top_token_ids, entry.top_logprobs, strict=True):
            top.setdefault(self._vocabulary.token_text(top_id), max(top_logprob, _LEAST))
        return top


def _shown(piece: Piece, vocabulary: TokenVocabulary) -> list[tuple[int, TokenLogprobs | None]]:
    """Tokens with what is known of them; the end of sequence that ended a choice is no content."""
    pairs: list[tuple[int, TokenLogprobs | None]] = list(
        zip(piece.token_ids, piece.logprobs, strict=False)
    )
    if piece.finish_reason is FinishReason.STOP and pairs and vocabulary.is_silent(pairs[-1][0]):
        pairs.pop()
    return pairs


def _prompt_of(piece: Piece) -> list[tuple[int, TokenLogprobs | None]]:
    if not piece.prompt_token_ids:
        return []
    return list(zip(piece.prompt_token_ids, (None, *piece.prompt_logprobs), strict=False))
