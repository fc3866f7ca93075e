"""A session's history, cut to what the model's context holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.ask import ChatPrompt
from gateway.sessions.history import num_turns, without_oldest

MIN_ANSWER_TOKENS = 256
"""Room kept for an answer whose caller names no max_tokens; a quarter of a small context."""


async def trim(
    prompt: ChatPrompt,
    *,
    num_new: int,
    max_tokens: int | None,
    max_model_len: int,
    count: Callable[[ChatPrompt], Awaitable[int]],
) -> ChatPrompt:
    """Drops the oldest whole turns, as few as make room for prompt and answer.

    A system message and the new messages are never dropped: if they alone are too long, the
    caller is told so.

    Args:
        prompt: history and new messages.
        num_new: how many of them are new.
        max_tokens: of the answer.
        max_model_len: of the model.
        count: tokens of a conversation.
    """
    room = min(MIN_ANSWER_TOKENS, max_model_len // 4) if max_tokens is None else max_tokens
    most = max_model_len - room
    low, high = 0, num_turns(prompt.messages, num_new=num_new)

    def candidate(num_dropped: int) -> ChatPrompt:
        kept = without_oldest(prompt.messages, num_new=num_new, num_dropped=num_dropped)
        return replace(prompt, messages=kept)

    if not high or await count(prompt) <= most:
        return prompt
    low = 1
    while low < high:
        middle = (low + high) // 2
        if await count(candidate(middle)) <= most:
            high = middle
        else:
            low = middle + 1
    return candidate(low)
