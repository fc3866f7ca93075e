"""An answer as it is kept."""

from __future__ import annotations

import msgspec

from services.core.logprobs import TokenLogprobs
from services.core.request import FinishReason


class KeptChoice(msgspec.Struct, frozen=True, array_like=True):
    """One choice: ids, not text, so that it is made text as it was the first time.

    Attributes:
        token_ids: up to the one that ended it.
        logprobs: one per token, if they were asked for.
        prompt_logprobs: likewise.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()


class KeptAnswer(msgspec.Struct, frozen=True, array_like=True):
    """All choices, in order; kept_unix_ms is when they were computed."""

    kept_unix_ms: int
    choices: tuple[KeptChoice, ...]


_DECODER = msgspec.msgpack.Decoder(KeptAnswer)


def encode_answer(answer: KeptAnswer) -> bytes:
    """As the broker holds it."""
    return msgspec.msgpack.encode(answer)


def decode_answer(payload: bytes) -> KeptAnswer | None:
    """What was kept; None if nobody here wrote it."""
    try:
        return _DECODER.decode(payload)
    except msgspec.MsgspecError:
        return None
