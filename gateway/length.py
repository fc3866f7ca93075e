"""How long an answer may become."""

from __future__ import annotations

from dataclasses import replace

from services.core.errors import InvalidRequest, PromptTooLong
from services.core.sampling import SamplingParams


def fit_answer(
    sampling: SamplingParams,
    *,
    num_prompt_tokens: int,
    prompt_field: str,
    max_model_len: int,
    default_max_tokens: int | None,
    max_total_tokens: int | None = None,
) -> SamplingParams:
    """The sampling with max_tokens set.

    A caller that names no max_tokens gets the default, as far as the context window has room, and
    with its prompt not more than max_total_tokens, all that it may use in a minute. One that names
    more than the room is refused: it would wait for an answer that cannot come.

    Raises:
        PromptTooLong: no room for a single token of answer.
        InvalidRequest: max_tokens or min_tokens exceed the room.
    """
    room = max_model_len - num_prompt_tokens
    if room < 1:
        raise PromptTooLong(
            field=prompt_field, num_tokens=num_prompt_tokens, max_model_len=max_model_len
        )
    if sampling.max_tokens is None:
        max_tokens = min(default_max_tokens or room, room)
        if max_total_tokens is not None:
            max_tokens = min(max_tokens, max(1, max_total_tokens - num_prompt_tokens))
        if sampling.min_tokens > max_tokens:
            raise _over("min_tokens", sampling.min_tokens, max_tokens, max_model_len)
        return replace(sampling, max_tokens=max_tokens)
    if sampling.max_tokens > room:
        raise _over("max_tokens", sampling.max_tokens, room, max_model_len)
    return sampling


def _over(field: str, value: int, room: int, max_model_len: int) -> InvalidRequest:
    return InvalidRequest(
        f"{field} is {value}; after this prompt at most {room} tokens fit"
        f" into the model's context of {max_model_len} tokens",
        field=field,
        reason=PromptTooLong.reason,
    )
