"""Fields that every answering route has, and those that none supports yet."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.http.body import refuse_unless_neutral
from services.core.errors import InvalidRequest
from services.core.request import RequestClass
from services.core.sampling import SamplingParams

# Known fields that are not supported, with the values that ask for nothing beyond what is done.
_NEUTRAL_VALUES: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
}


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

    user: str | None = None
    metadata: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    n: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    repetition_penalty: Any = None
    logit_bias: Any = None
    logprobs: Any = None
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


def sampling_of(call: SamplingFields, *, max_tokens: int | None) -> SamplingParams:
    """Sampling as asked; values are checked by whoever admits the request.

    Raises:
        InvalidRequest: a field that is not supported.
    """
    refuse_unsupported(call, _NEUTRAL_VALUES)
    default = SamplingParams()
    stop = (call.stop,) if isinstance(call.stop, str) else tuple(call.stop or ())
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=default.min_tokens if call.min_tokens is None else call.min_tokens,
        temperature=default.temperature if call.temperature is None else call.temperature,
        top_k=default.top_k if call.top_k is None else call.top_k,
        top_p=default.top_p if call.top_p is None else call.top_p,
        min_p=default.min_p if call.min_p is None else call.min_p,
        seed=call.seed,
        stop=stop,
        stop_token_ids=tuple(call.stop_token_ids or ()),
        ignore_eos=bool(call.ignore_eos),
    )


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
