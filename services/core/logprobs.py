"""How likely a token was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities at one position, before penalties, bias and temperature.

    Attributes:
        logprob: of the token that stands there.
        top_token_ids: the likeliest tokens, likeliest first; of equal ones the lower id first.
        top_logprobs: theirs.
    """

    logprob: float
    top_token_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()
