"""Schemas of what routes answer."""

from __future__ import annotations

from typing import Any

from gateway.http.openapi.requests import Schema

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
TRUTH: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
ANY: Schema = {"type": "object"}


def ref(name: str) -> Schema:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def one_of(*values: Any) -> Schema:
    """One of these values."""
    return {"enum": list(values)}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, NULL]}


def array(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def obj(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def listed(items: Schema, more: dict[str, Schema] | None = None) -> Schema:
    """A list as OpenAI's routes wrap it."""
    return obj({"object": one_of("list"), "data": array(items), **(more or {})})


_REASON = one_of("stop", "length", "cancelled", "error")
_TOKEN = {"token": TEXT, "logprob": NUMBER, "bytes": array(INTEGER)}
_TOKEN_IDS = {"token_ids": array(INTEGER)}
_REPLY = {"id": TEXT, "created": INTEGER, "model": TEXT}
_LAST_USAGE = {"usage": nullable(ref("Usage"))}
_DELTA = obj({}, {"role": one_of("assistant"), "content": TEXT, "refusal": NULL})
_OUTPUT_TEXT = {
    "type": one_of("output_text"), "text": TEXT, "annotations": array(ANY), "logprobs": array(ANY),
}  # fmt: skip


def _reply(kind: str, choice: Schema, more: dict[str, Schema]) -> Schema:
    return obj({**_REPLY, "object": one_of(kind), "choices": array(choice), **more})


def _chunk(kind: str, choice: Schema) -> Schema:
    required = {**_REPLY, "object": one_of(kind), "choices": array(choice)}
    return obj(required, _LAST_USAGE)


_CHAT_CHOICE = {"index": INTEGER, "logprobs": nullable(ref("ChatLogprobs"))}
_TEXT_CHOICE = obj(
    {
        "index": INTEGER,
        "text": TEXT,
        "logprobs": nullable(ref("CompletionLogprobs")),
        "finish_reason": nullable(_REASON),
    },
    _TOKEN_IDS,
)
_TEXTS = array(nullable({"type": "object", "additionalProperties": NUMBER}))
_NATIVE = {"request_id": TEXT, "text": TEXT, "finish_reason": nullable(_REASON)}

SCHEMAS: dict[str, Schema] = {
    "Error": obj(
        {
            "error": obj(
                {"message": TEXT, "type": TEXT, "param": nullable(TEXT), "code": nullable(TEXT)}
            )
        }
    ),
    "AnthropicError": obj({"type": one_of("error"), "error": obj({"type": TEXT, "message": TEXT})}),
    "Usage": obj(
        {
            "prompt_tokens": INTEGER,
            "completion_tokens": INTEGER,
            "total_tokens": INTEGER,
            "prompt_tokens_details": obj({"cached_tokens": INTEGER}),
        },
        {"result_cached": BOOLEAN},
    ),
    "ChatLogprobs": obj(
        {"content": array(obj({**_TOKEN, "top_logprobs": array(obj(_TOKEN))})), "refusal": NULL}
    ),
    "CompletionLogprobs": obj(
        {
            "tokens": array(TEXT),
            "token_logprobs": array(nullable(NUMBER)),
            "top_logprobs": _TEXTS,
            "text_offset": array(INTEGER),
        }
    ),
    "ChatCompletion": _reply(
        "chat.completion",
        obj(
            {
                **_CHAT_CHOICE,
                "message": obj({"role": one_of("assistant"), "content": TEXT, "refusal": NULL}),
                "finish_reason": _REASON,
            },
            _TOKEN_IDS,
        ),
        {"usage": ref("Usage")},
    ),
    "ChatCompletionChunk": _chunk(
        "chat.completion.chunk",
        obj({**_CHAT_CHOICE, "delta": _DELTA, "finish_reason": nullable(_REASON)}, _TOKEN_IDS),
    ),
    "Completion": _reply("text_completion", _TEXT_CHOICE, {"usage": ref("Usage")}),
    "CompletionChunk": _chunk("text_completion", _TEXT_CHOICE),
    "Response": {
        "type": "object",
        "properties": {
            "id": TEXT,
            "object": one_of("response"),
            "created_at": INTEGER,
            "status": one_of(
                "queued", "in_progress", "completed", "incomplete", "failed", "cancelled"
            ),
            "model": TEXT,
            "output": array(
                obj(
                    {
                        "id": TEXT,
                        "type": one_of("message"),
                        "role": one_of("assistant"),
                        "status": one_of("completed", "incomplete"),
                        "content": array(obj(_OUTPUT_TEXT)),
                    }
                )
            ),
            "error": nullable(obj({"code": TEXT, "message": TEXT})),
            "incomplete_details": nullable(obj({"reason": one_of("max_output_tokens")})),
            "usage": nullable(ANY),
            "metadata": ANY,
        },
        "required": ["id", "object", "created_at", "status", "model", "output", "usage"],
    },
    "InputItems": listed(
        ANY,
        {"first_id": nullable(TEXT), "last_id": nullable(TEXT), "has_more": TRUTH},
    ),
    "Deleted": obj({"id": TEXT, "object": TEXT, "deleted": one_of(True)}),
    "Message": obj(
        {
            "id": TEXT,
            "type": one_of("message"),
            "role": one_of("assistant"),
            "model": TEXT,
            "content": array(obj({"type": one_of("text"), "text": TEXT})),
            "stop_reason": nullable(one_of("end_turn", "max_tokens", "stop_sequence")),
            "stop_sequence": nullable(TEXT),
            "usage": obj(
                {
                    "input_tokens": INTEGER,
                    "cache_creation_input_tokens": INTEGER,
                    "cache_read_input_tokens": INTEGER,
                    "output_tokens": INTEGER,
                },
                {"result_cached": BOOLEAN},
            ),
        }
    ),
    "TokenCount": obj({"input_tokens": INTEGER}),
    "Tokens": obj(
        {
            "count": INTEGER,
            "max_model_len": INTEGER,
            "tokens": array(INTEGER),
            "token_strs": nullable(array(TEXT)),
        }
    ),
    "Text": obj({"prompt": TEXT}),
    "Generated": obj(
        {**_NATIVE, "model": TEXT}, {"session_id": TEXT, **_TOKEN_IDS, "usage": ref("Usage")}
    ),
    "GeneratedPiece": obj(_NATIVE, {"session_id": TEXT, **_TOKEN_IDS, "usage": ref("Usage")}),
    "Sessions": listed(obj({"id": TEXT, "object": one_of("session")}), {"has_more": TRUTH}),
    "Session": obj(
        {
            "id": TEXT,
            "object": one_of("session"),
            "messages": array(obj({"role": TEXT, "content": TEXT})),
        }
    ),
    "Model": obj(
        {
            "id": TEXT,
            "object": one_of("model"),
            "created": INTEGER,
            "max_model_len": INTEGER,
            "owned_by": TEXT,
        }
    ),
    "Models": listed(ref("Model")),
    "DaysOfUse": listed(
        obj(
            {
                "day": TEXT,
                "tenant": TEXT,
                "key_id": TEXT,
                "num_requests": INTEGER,
                "prompt_tokens": INTEGER,
                "cached_tokens": INTEGER,
                "completion_tokens": INTEGER,
            }
        )
    ),
    "Alive": obj({"status": one_of("alive")}),
    "Ready": obj({"ready": TRUTH, "reasons": array(TEXT)}),
    "Object": ANY,
}
