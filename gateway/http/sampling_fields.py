"""Fields that every answering route has, and those that none supports yet."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.http.body import refuse_unless_neutral
from services.core.errors import InvalidRequest
from services.core.request import RequestClass
from services.core.sampling import SamplingParams

# Known fields that are not supported, with the values that ask for nothing beyond what is done.
NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
}

_PLAIN_FIELDS = (
    "min_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
"""Fields that are SamplingParams' own; absent or null, they take its defaults."""
LEAST_TOP_P = 1e-6
"""What a top_p of 0 means: the likeliest token alone."""
_TOKEN_ID = re.compile(r"[0-9]{1,9}", re.ASCII)


class SamplingFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Null is the same as absent, as clients write it.

    `priority` is a request class; `user`, `metadata` and the like are taken and change nothing.
    """

    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None
    priority: str | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    allowed_token_ids: list[int] | None = None
    banned_token_ids: list[int] | None = None

    user: str | None = None
    metadata: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    response_format: Any = None
    service_tier: Any = None
    store: Any = None


def refuse_unsupported(call: msgspec.Struct, neutral_values: dict[str, tuple[Any, ...]]) -> None:
    """Refuses what is known but not done; nothing is ignored in silence.

    Raises:
        InvalidRequest: names the first such field.
    """
    for field, neutral in neutral_values.items():
        refuse_unless_neutral(field, getattr(call, field), neutral)


def sampling_of(
    call: SamplingFields,
    *,
    max_tokens: int | None,
    logprobs: int | None = None,
    prompt_logprobs: int | None = None,
) -> SamplingParams:
    """Sampling as asked; values are checked by whoever admits the request.

    Args:
        call: the body.
        max_tokens: as the route spells it.
        logprobs: the same.
        prompt_logprobs: the same.

    Raises:
        InvalidRequest: a field that is not supported.
    """
    refuse_unsupported(call, NEUTRAL_VALUES)
    stop = (call.stop,) if isinstance(call.stop, str) else tuple(call.stop or ())
    given = {
        field: getattr(call, field) for field in _PLAIN_FIELDS if getattr(call, field) is not None
    }
    if given.get("top_p") == 0:
        given["top_p"] = LEAST_TOP_P
    return SamplingParams(
        max_tokens=max_tokens,
        seed=call.seed,
        stop=stop,
        stop_token_ids=tuple(call.stop_token_ids or ()),
        ignore_eos=bool(call.ignore_eos),
        logit_bias=_logit_bias(call.logit_bias or {}),
        allowed_token_ids=tuple(call.allowed_token_ids or ()),
        banned_token_ids=tuple(call.banned_token_ids or ()),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        **given,
    )


def _logit_bias(biases: dict[str, float]) -> tuple[tuple[int, float], ...]:
    """JSON spells the token ids as text."""
    for key in biases:
        if not _TOKEN_ID.fullmatch(key):
            raise InvalidRequest(
                f"logit_bias has the key {key[:32]!r}; allowed: token ids", field="logit_bias"
            )
    return tuple((int(key), bias) for key, bias in biases.items())


def request_class_of(call: SamplingFields) -> RequestClass:
    """The class named by `priority`; absent: interactive.

    Raises:
        InvalidRequest: no such class.
    """
    if call.priority is None:
        return RequestClass.INTERACTIVE
    try:
        return RequestClass(call.priority)
    except ValueError as exc:
        known = ", ".join(RequestClass)
        raise InvalidRequest(
            f"priority is {call.priority[:64]!r}; allowed: {known}", field="priority"
        ) from exc
