"""Schemas of request bodies: from the structs that decode them, with what is checked after."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.http import anthropic_messages, chat_completions, completions, native, sampling_fields
from gateway.http.responses import body as responses
from gateway.http.token_routes import DetokenizeFields, TokenizeFields
from services.core.request import RequestClass
from services.core.sampling import (
    MAX_CHOICES,
    MAX_PENALTY,
    MAX_REPETITION_PENALTY,
    MAX_SEED,
    MAX_TEMPERATURE,
    MAX_TOP_LOGPROBS,
    MIN_SEED,
)

Schema = dict[str, Any]
REF = "#/components/schemas/{name}"

_BODIES: tuple[type[msgspec.Struct], ...] = (
    chat_completions.ChatCompletionFields,
    completions.CompletionFields,
    responses.ResponseFields,
    anthropic_messages.MessagesFields,
    anthropic_messages.CountFields,
    native.GenerateFields,
    native.ChatMessageFields,
    TokenizeFields,
    DetokenizeFields,
)
_NEUTRAL: dict[str, dict[str, tuple[Any, ...]]] = {
    "ChatCompletionFields": chat_completions.NEUTRAL_VALUES | sampling_fields.NEUTRAL_VALUES,
    "CompletionFields": completions.NEUTRAL_VALUES | sampling_fields.NEUTRAL_VALUES,
    "ResponseFields": responses.NEUTRAL_VALUES,
    "MessagesFields": anthropic_messages.NEUTRAL_VALUES,
    "CountFields": anthropic_messages.NEUTRAL_VALUES,
    "GenerateFields": native.NEUTRAL_VALUES | sampling_fields.NEUTRAL_VALUES,
    "ChatMessageFields": native.NEUTRAL_VALUES | sampling_fields.NEUTRAL_VALUES,
}
_AT_LEAST_ONE: Schema = {"minimum": 1}
_PENALTY: Schema = {"minimum": -MAX_PENALTY, "maximum": MAX_PENALTY}
_SHARE: Schema = {"minimum": 0, "maximum": 1}
_LIMITS: dict[str, Schema] = {
    "max_tokens": _AT_LEAST_ONE,
    "max_completion_tokens": _AT_LEAST_ONE,
    "max_output_tokens": _AT_LEAST_ONE,
    "min_tokens": {"minimum": 0},
    "temperature": {"minimum": 0, "maximum": MAX_TEMPERATURE},
    "top_p": _SHARE,
    "min_p": _SHARE,
    "top_k": {"minimum": 0},
    "seed": {"minimum": MIN_SEED, "maximum": MAX_SEED},
    "presence_penalty": _PENALTY,
    "frequency_penalty": _PENALTY,
    "repetition_penalty": {"exclusiveMinimum": 0, "maximum": MAX_REPETITION_PENALTY},
    "n": {"minimum": 1, "maximum": MAX_CHOICES},
    "top_logprobs": {"minimum": 0, "maximum": MAX_TOP_LOGPROBS},
    "priority": {"enum": [*RequestClass]},
}


def request_schemas() -> dict[str, Schema]:
    """All of them, and what they refer to, by name."""
    _, components = msgspec.json.schema_components(_BODIES, ref_template=REF)
    for name, schema in components.items():
        properties: dict[str, Schema] = schema.get("properties", {})
        _limit(properties)
        for field, neutral in _NEUTRAL.get(name, {}).items():
            if field in properties:
                properties[field] = _unsupported(neutral)
    components["CompletionFields"]["properties"]["logprobs"] = _nullable(
        {"type": "integer", "minimum": 0, "maximum": completions.MAX_LOGPROBS}
    )
    messages = components["MessagesFields"]["properties"]
    messages["temperature"] = _nullable(
        {"type": "number", "minimum": 0, "maximum": anthropic_messages.MAX_TEMPERATURE}
    )
    return components


def _limit(properties: dict[str, Schema]) -> None:
    for field, limits in _LIMITS.items():
        for kind in _kinds(properties.get(field, {})):
            if kind.get("type") in ("integer", "number", "string"):
                kind.update(limits)


def _kinds(schema: Schema) -> Iterable[Schema]:
    return schema.get("anyOf", [schema])


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _unsupported(neutral: tuple[Any, ...]) -> Schema:
    return {
        "enum": [None, *neutral],
        "description": "Not supported: any other value is refused by name.",
    }
