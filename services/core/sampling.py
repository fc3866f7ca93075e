"""How the next token is chosen, and which values are allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import pack

from services.core.errors import InvalidRequest

MAX_STOP_STRINGS = 16
MAX_STOP_STRING_CHARS = 256
MAX_STOP_TOKEN_IDS = 64
MAX_TEMPERATURE = 2.0
MAX_PENALTY = 2.0
MAX_REPETITION_PENALTY = 10.0
MAX_LOGIT_BIAS = 100.0
MAX_LOGIT_BIASES = 1024
MAX_ALLOWED_TOKEN_IDS = 4096
MAX_BANNED_TOKEN_IDS = 1024
MAX_TOP_LOGPROBS = 20
MAX_CHOICES = 128
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
        repetition_penalty: above 1 makes tokens of prompt and answer less likely, whatever their
            number: positive logits are divided by it, negative ones multiplied. 1 is off.
        presence_penalty: subtracted once from the logits of tokens that the answer has, in [-2, 2].
        frequency_penalty: the same, once for each time that the answer has the token.
        logit_bias: (token id, bias in [-100, 100]), added to logits; each id at most once.
        allowed_token_ids: only these may be chosen; empty allows all.
        banned_token_ids: these are never chosen.
        logprobs: report the chosen token's log-probability and those of so many likeliest tokens,
            before penalties, bias and temperature; None reports nothing.
        prompt_logprobs: the same for every prompt token but the first.
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
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    allowed_token_ids: tuple[int, ...] = ()
    banned_token_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    @property
    def penalizes(self) -> bool:
        """Whether the tokens so far change what comes."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )


def seed_of_choice(seed: int, choice_idx: int) -> int:
    """The seed of one of several answers to a request; the first one's is the request's own.

    Hashed, so that the choices of neighbouring seeds differ from each other.
    """
    if choice_idx == 0:
        return seed
    digest = blake2b(pack("<qI", seed, choice_idx), digest_size=8, person=b"tokenmill-choice")
    return int.from_bytes(digest.digest(), "little", signed=True)


def check_num_choices(num_choices: int, *, field: str) -> None:
    """Refuses a number of answers out of range.

    Raises:
        InvalidRequest: names the field as the caller calls it.
    """
    _check(1 <= num_choices <= MAX_CHOICES, field, num_choices, f"1 to {MAX_CHOICES}")


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
    _check_ids("stop_token_ids", params.stop_token_ids, MAX_STOP_TOKEN_IDS, vocab_size)
    _check_steering(params, vocab_size)
    for field, count in (
        ("logprobs", params.logprobs),
        ("prompt_logprobs", params.prompt_logprobs),
    ):
        _check(
            count is None or 0 <= count <= MAX_TOP_LOGPROBS,
            field,
            count,
            f"0 to {MAX_TOP_LOGPROBS}",
        )


def _check_steering(params: SamplingParams, vocab_size: int) -> None:
    """What moves single logits."""
    repetition = params.repetition_penalty
    _check(
        math.isfinite(repetition) and 0.0 < repetition <= MAX_REPETITION_PENALTY,
        "repetition_penalty",
        repetition,
        f"above 0 and at most {MAX_REPETITION_PENALTY:g}",
    )
    _check_range("presence_penalty", params.presence_penalty, -MAX_PENALTY, MAX_PENALTY)
    _check_range("frequency_penalty", params.frequency_penalty, -MAX_PENALTY, MAX_PENALTY)
    biased_ids = [token_id for token_id, _ in params.logit_bias]
    _check_ids("logit_bias", biased_ids, MAX_LOGIT_BIASES, vocab_size)
    _check(len(set(biased_ids)) == len(biased_ids), "logit_bias", "given twice for a token", "once")
    for _, bias in params.logit_bias:
        _check_range("logit_bias", bias, -MAX_LOGIT_BIAS, MAX_LOGIT_BIAS)
    _check_ids("allowed_token_ids", params.allowed_token_ids, MAX_ALLOWED_TOKEN_IDS, vocab_size)
    _check_ids("banned_token_ids", params.banned_token_ids, MAX_BANNED_TOKEN_IDS, vocab_size)
    if params.allowed_token_ids:
        _check(
            not set(params.allowed_token_ids) <= set(params.banned_token_ids),
            "allowed_token_ids",
            "banned by banned_token_ids",
            "at least one that is not",
        )


def _check_ids(field: str, token_ids: Sequence[int], max_ids: int, vocab_size: int) -> None:
    _check(len(token_ids) <= max_ids, field, f"{len(token_ids)} ids", f"at most {max_ids}")
    for token_id in token_ids:
        _check(0 <= token_id < vocab_size, field, token_id, f"0 to {vocab_size - 1}")


def _check_range(field: str, value: float, low: float, high: float) -> None:
    _check(math.isfinite(value) and low <= value <= high, field, value, f"{low:g} to {high:g}")


def _check(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise InvalidRequest(f"{field} is {value}; allowed: {allowed}", field=field)
