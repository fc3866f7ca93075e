"""How the next token is chosen, and which values are allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.core.errors import InvalidRequest

MAX_STOP_STRINGS = 16
MAX_STOP_STRING_CHARS = 256
MAX_STOP_TOKEN_IDS = 64
MAX_TEMPERATURE = 2.0
MIN_SEED, MAX_SEED = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling of one request; the defaults are those of the public APIs.

    Attributes:
        max_tokens: most new tokens, >= 1; None: up to the context window.
        min_tokens: fewest new tokens before an end-of-sequence token may be chosen.
        temperature: softmax temperature in [0, 2]; 0 is greedy.
        top_k: keep the k likeliest; 0 keeps all.
        top_p: keep the smallest set with this probability, in (0, 1].
        min_p: keep tokens at least this share as likely as the likeliest, in [0, 1].
        seed: same seed, same tokens; None: one is drawn by the gateway.
        stop: texts that end the answer and are not part of it.
        stop_token_ids: ids that end the answer, beside the model's own.
        ignore_eos: go on past the model's end-of-sequence tokens.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


def check_sampling(params: SamplingParams, *, vocab_size: int) -> None:
    """Refuses values out of range.

    Raises:
        InvalidRequest: names the first offending field, its value and the limit.
    """
    _check(
        params.max_tokens is None or params.max_tokens >= 1,
        "max_tokens",
        params.max_tokens,
        "at least 1",
    )
    _check(params.min_tokens >= 0, "min_tokens", params.min_tokens, "at least 0")
    if params.max_tokens is not None:
        _check(
            params.min_tokens <= params.max_tokens,
            "min_tokens",
            params.min_tokens,
            f"at most max_tokens, {params.max_tokens}",
        )
    _check_range("temperature", params.temperature, 0.0, MAX_TEMPERATURE)
    _check(params.top_k >= 0, "top_k", params.top_k, "at least 0")
    _check(
        math.isfinite(params.top_p) and 0.0 < params.top_p <= 1.0,
        "top_p",
        params.top_p,
        "above 0 and at most 1",
    )
    _check_range("min_p", params.min_p, 0.0, 1.0)
    _check(
        params.seed is None or MIN_SEED <= params.seed <= MAX_SEED,
        "seed",
        params.seed,
        "a signed 64-bit integer",
    )
    _check(
        len(params.stop) <= MAX_STOP_STRINGS,
        "stop",
        f"{len(params.stop)} texts",
        f"at most {MAX_STOP_STRINGS}",
    )
    for text in params.stop:
        _check(
            0 < len(text) <= MAX_STOP_STRING_CHARS,
            "stop",
            f"a text of {len(text)} characters",
            f"1 to {MAX_STOP_STRING_CHARS} characters",
        )
    _check(
        len(params.stop_token_ids) <= MAX_STOP_TOKEN_IDS,
        "stop_token_ids",
        f"{len(params.stop_token_ids)} ids",
        f"at most {MAX_STOP_TOKEN_IDS}",
    )
    for token_id in params.stop_token_ids:
        _check(0 <= token_id < vocab_size, "stop_token_ids", token_id, f"0 to {vocab_size - 1}")


def _check_range(field: str, value: float, low: float, high: float) -> None:
    _check(math.isfinite(value) and low <= value <= high, field, value, f"{low:g} to {high:g}")


def _check(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise InvalidRequest(f"{field} is {value}; allowed: {allowed}", field=field)
