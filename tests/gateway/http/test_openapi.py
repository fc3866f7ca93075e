"""What /openapi.json says is what the routes are."""

import json
import re
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from gateway.http.openapi.document import OPERATIONS, document
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL

HI = [{"role": "user", "content": "hi"}]


def routes_of(app: Any) -> set[tuple[str, str]]:
    router = app._app
    return {
        (method.lower(), re.sub(":path}", "}", route.path))
        for route in router.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }


async def test_every_route_is_described_and_nothing_else(served: Served):
    app = served.gateway.http._server.config.app
    assert {(each.method, each.path) for each in OPERATIONS} == routes_of(app)


async def test_the_document_is_served_and_refers_to_what_it_holds(
    served: Served, client: httpx.AsyncClient
):
    reply = await client.get("/openapi.json")
    assert reply.json() == json.loads(json.dumps(document()))
    components = reply.json()["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", reply.text)) <= set(components)


ANSWERS = [
    ("/v1/chat/completions", {"messages": HI, "logprobs": True, "top_logprobs": 1}),
    ("/v1/completions", {"prompt": "a", "logprobs": 1, "echo": True, "return_token_ids": True}),
    ("/v1/responses", {"input": "hi"}),
    ("/v1/messages", {"model": MODEL, "messages": HI, "max_tokens": 2}),
    ("/tokenize", {"prompt": "a", "return_token_strs": True}),
    ("/api/v1/inference/generate", {"prompt": "a", "stream": False, "return_token_ids": True}),
    ("/api/chat/message", {"message": "a", "stream": False}),
    ("/v1/chat/completions", {"messages": HI, "top_p": 7}),
]


@pytest.mark.parametrize(("path", "body"), ANSWERS)
async def test_answers_are_as_described(
    working: Served, client: httpx.AsyncClient, path: str, body: dict[str, Any]
):
    reply = await client.post(path, json=body)
    described = document()
    answers = described["paths"][path]["post"]["responses"]
    schema = answers[str(reply.status_code)]["content"]["application/json"]["schema"]
    check(reply.json(), schema, described["components"]["schemas"], path)


@pytest.mark.parametrize(("path", "body"), ANSWERS[:2])
async def test_events_are_as_described(
    working: Served, client: httpx.AsyncClient, path: str, body: dict[str, Any]
):
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    reply = await client.post(path, json=body | streamed)
    described = document()
    content = described["paths"][path]["post"]["responses"]["200"]["content"]
    events = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    assert len(events) > 2
    for event in events:
        schema = content["text/event-stream"]["x-event-schema"]
        check(json.loads(event), schema, described["components"]["schemas"], path)


KINDS = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
    "array": list, "object": dict,
}  # fmt: skip


def check(value: Any, schema: Any, components: Any, at: str) -> None:
    """As much of JSON Schema as the answers use."""
    if "$ref" in schema:
        check(value, components[schema["$ref"].rpartition("/")[2]], components, at)
    elif "anyOf" in schema:
        (kind,) = [one for one in schema["anyOf"] if (one.get("type") == "null") == (value is None)]
        check(value, kind, components, at)
    elif "enum" in schema:
        assert value in schema["enum"], at
    else:
        assert isinstance(value, KINDS[schema["type"]]), (at, value)
        if isinstance(value, list):
            for idx, one in enumerate(value):
                check(one, schema["items"], components, f"{at}[{idx}]")
        elif isinstance(value, dict) and "properties" in schema:
            assert set(schema["required"]) <= set(value), at
            for name, one in value.items():
                if schema.get("additionalProperties") is False or name in schema["properties"]:
                    check(one, schema["properties"][name], components, f"{at}.{name}")
