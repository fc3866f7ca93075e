"""Prompts to token ids."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gateway.ask import ChatPrompt, Prompt, TextPrompt, TokenPrompt
from gateway.catalog import ServedModel, Tokenizing
from services.core.errors import DeadlineExceeded, InvalidRequest


class PromptReader:
    """Asks the tokenizer service, and speaks of errors in the caller's words."""

    def __init__(self, tokenizer: Tokenizing) -> None:
        self._tokenizer = tokenizer

    async def token_ids(
        self, prompt: Prompt, model: ServedModel, *, deadline_unix_ms: int
    ) -> tuple[int, ...]:
        """The prompt as the model takes it; a conversation ends in the assistant's turn.

        Raises:
            InvalidRequest: empty, or refused by tokenizer or template; names the caller's field.
            DeadlineExceeded: it is too late.
            TokenmillError: the tokenizer service does not answer.
        """
        left_s = deadline_unix_ms / 1000 - time.time()
        if left_s <= 0:
            raise too_late()
        try:
            match prompt:
                case TokenPrompt(token_ids):
                    pass
                case TextPrompt(text):
                    _check_not_empty(text, prompt.field, "character")
                    token_ids = await self._tokenizer.tokenize_text(
                        text, model=model.name, timeout_s=left_s
                    )
                case ChatPrompt(messages):
                    _check_not_empty(messages, prompt.field, "message")
                    token_ids = await self._tokenizer.tokenize_conversation(
                        messages, model=model.name, timeout_s=left_s
                    )
        except InvalidRequest as exc:
            # The tokenizer speaks of its own fields; the caller knows only its own.
            raise InvalidRequest(exc.message, field=prompt.field, reason=exc.reason) from exc
        check_token_ids(token_ids, prompt.field, model.description.vocab_size)
        return tuple(token_ids)


def too_late() -> DeadlineExceeded:
    """The error of a request whose time is over."""
    return DeadlineExceeded("the request's deadline passed before its answer was whole")


def _check_not_empty(content: Sequence[object], field: str, unit: str) -> None:
    if not content:
        raise InvalidRequest(
            f"{field} is empty; at least one {unit} is needed", field=field, reason="EMPTY_PROMPT"
        )


def check_token_ids(token_ids: Sequence[int], field: str, vocab_size: int) -> None:
    """Refuses ids that the vocabulary does not have.

    Raises:
        InvalidRequest: names the field.
    """
    _check_not_empty(token_ids, field, "token")
    if min(token_ids) < 0 or max(token_ids) >= vocab_size:
        raise InvalidRequest(
            f"{field} holds a token id out of range; allowed: 0 to {vocab_size - 1}", field=field
        )
