"""The OpenAPI document, and the route that serves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.http.openapi.answers import SCHEMAS, ref
from gateway.http.openapi.requests import Schema, request_schemas
from gateway.http.sse import send_reply

_ASKING = (400, 401, 403, 404, 413, 415, 429, 500, 503, 504)
_READING = (401, 403, 404, 500, 503)
_LISTING = (400, 401, 403, 500, 503)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        answer: component of the JSON answer, or a media type.
        body: component of the request.
        event: component of a server-sent event, where the route streams.
        errors: statuses that it may answer beside 200.
        query: query parameters.
        headers: request headers.
        is_public: asks for no key.
    """

    method: str
    path: str
    summary: str
    answer: str
    body: str = ""
    event: str = ""
    errors: tuple[int, ...] = _READING
    query: dict[str, Schema] = field(default_factory=dict)
    headers: dict[str, Schema] = field(default_factory=dict)
    is_public: bool = False


_RESPONSE = "/v1/responses/{response_id}"
_SESSION = "/api/chat/sessions/{session_id}"
_SESSION_HEADER: dict[str, Schema] = {
    "X-Session-ID": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"}
}
_PATH_TEXT: Schema = {"type": "string", "minLength": 1}
_EVENTS = "text/event-stream"
_EVENT: Schema = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}


def _page(default: int, most: int) -> dict[str, Schema]:
    limit: Schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return {"limit": limit, "after": {"type": "string"}}


def _ask(path: str, summary: str, body: str, answer: str, event: str = "") -> Operation:
    return Operation("post", path, summary, answer, body=body, event=event, errors=_ASKING)


OPERATIONS = (
    _ask("/v1/chat/completions", "Answer a conversation (OpenAI).", "ChatCompletionFields",
         "ChatCompletion", "ChatCompletionChunk"),
    _ask("/v1/completions", "Complete prompts (OpenAI).", "CompletionFields", "Completion",
         "CompletionChunk"),
    Operation("post", "/v1/responses", "Make a response (OpenAI).", "Response",
              body="ResponseFields", event="Object", errors=(*_ASKING, 409)),
    Operation("get", _RESPONSE, "A kept response.", "Response", errors=(*_READING, 400)),
    Operation("delete", _RESPONSE, "Forget a kept response.", "Deleted",
              errors=(*_READING, 400, 409)),
    Operation("get", f"{_RESPONSE}/input_items", "What a kept response answered.", "InputItems",
              errors=(*_READING, 400),
              query=_page(20, 100) | {"order": {"type": "string", "enum": ["asc", "desc"]}}),
    Operation("post", f"{_RESPONSE}/cancel", "Cancel a background response.", "Response",
              errors=(*_READING, 400, 409)),
    _ask("/v1/messages", "Answer a conversation (Anthropic).", "MessagesFields", "Message",
         "Object"),
    _ask("/v1/messages/count_tokens", "Count a conversation's tokens.", "CountFields",
         "TokenCount"),
    _ask("/tokenize", "Text or conversation to token ids.", "TokenizeFields", "Tokens"),
    _ask("/detokenize", "Token ids to text.", "DetokenizeFields", "Text"),
    _ask("/api/v1/inference/generate", "Complete a prompt or answer a conversation; streams"
         " unless told not to.", "GenerateFields", "Generated", "GeneratedPiece"),
    Operation("post", "/api/chat/message", "Answer the next message of a session; streams unless"
              " told not to.", "Generated", body="ChatMessageFields", event="GeneratedPiece",
              errors=(*_ASKING, 409), headers=_SESSION_HEADER),
    Operation("get", "/api/chat/sessions", "Ids of sessions.", "Sessions", errors=_LISTING,
              query=_page(100, 1000)),
    Operation("get", _SESSION, "A session with its messages.", "Session", errors=(*_READING, 400)),
    Operation("delete", _SESSION, "Forget a session.", "Deleted", errors=(*_READING, 400, 409)),
    Operation("get", "/v1/models", "Models that can be asked for.", "Models"),
    Operation("get", "/v1/models/{model}", "One model.", "Model"),
    Operation("get", "/api/v1/usage", "What the caller's tenant used, per key and day.",
              "DaysOfUse"),
    Operation("get", "/api/v1/live", "What goes on now, for operators.", "Object"),
    Operation("get", "/api/v1/explain/{request_id}", "Where a request's time went, for operators.",
              "Object"),
    Operation("get", "/metrics", "Prometheus metrics, for operators.", "text/plain"),
    Operation("get", "/livez", "The process runs.", "Alive", errors=(), is_public=True),
    Operation("get", "/readyz", "Whether it takes requests; 503 with the reasons if not.", "Ready",
              errors=(), is_public=True),
    Operation("get", "/health", "The same, by the name that vLLM's clients ask.", "Ready",
              errors=(), is_public=True),
    Operation("get", "/openapi.json", "This document.", "Object", errors=(), is_public=True),
    Operation("get", "/", "A page with chat and a live view.", "text/html", errors=(),
              is_public=True),
    Operation("get", "/ui/{path}", "The page's files.", "*/*", errors=(404,), is_public=True),
)  # fmt: skip


def document() -> Schema:
    """The whole document."""
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tokenmill",
            "version": version("tokenmill"),
            "description": "Unknown fields are refused by name. Streams are server-sent events:"
            " each `data:` is one object of the schema in `x-event-schema`; OpenAI's and our own"
            " end with `data: [DONE]`, and an error in the middle is an event of its own.",
        },
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": {**request_schemas(), **SCHEMAS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


class ShowDocument:
    """ASGI endpoint; encoded once, when constructed."""

    def __init__(self) -> None:
        self._body = msgspec.json.encode(document())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        await send_reply(send, 200, self._body)


def _described(operation: Operation) -> Schema:
    described: Schema = {
        "summary": operation.summary,
        "operationId": _id_of(operation),
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if operation.body:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": ref(operation.body)}},
        }
    if operation.is_public:
        described["security"] = []
    return described


def _id_of(operation: Operation) -> str:
    words = operation.path.replace("{", "").replace("}", "").replace(".", "/").split("/")
    return "_".join([operation.method, *(word for word in words if word)])


def _parameters(operation: Operation) -> list[Schema]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    found: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_TEXT} for name in names
    ]
    for place, parameters in (("query", operation.query), ("header", operation.headers)):
        found.extend(
            {"name": name, "in": place, "required": False, "schema": schema}
            for name, schema in parameters.items()
        )
    return found


def _responses(operation: Operation) -> Schema:
    is_media = "/" in operation.answer
    schema = {} if is_media else ref(operation.answer)
    content: Schema = {operation.answer if is_media else "application/json": {"schema": schema}}
    if operation.event:
        content[_EVENTS] = {"schema": _EVENT, "x-event-schema": ref(operation.event)}
    responses: Schema = {"200": {"description": "Done.", "content": content}}
    if operation.answer == "Ready":
        responses["503"] = {"description": "Not ready.", "content": content}
    error = "AnthropicError" if operation.path.startswith("/v1/messages") else "Error"
    for status in sorted(operation.errors):
        responses[str(status)] = _error(status, error)
    return responses


_MEANINGS = {
    400: "A field is wrong; `param` names it.",
    401: "No valid key.",
    403: "The key may not do this.",
    404: "There is no such thing.",
    409: "Somebody else changed it first.",
    413: "The body is too long.",
    415: "The body is no JSON.",
    429: "Over a limit; Retry-After says for how long.",
    500: "A fault of ours.",
    503: "Full, or not ready; Retry-After says when to come back.",
    504: "The deadline passed.",
}


def _error(status: int, schema: str) -> dict[str, Any]:
    return {
        "description": _MEANINGS[status],
        "content": {"application/json": {"schema": ref(schema)}},
    }
