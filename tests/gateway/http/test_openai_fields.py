"""Every field that OpenAI's own package can send is known here: it works, or is refused by name."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from gateway.http import chat_completions, completions, sampling_fields
from gateway.http.responses import body as responses
from tests.gateway.conftest import Served

DOCS = Path(__file__).parents[3] / "docs" / "gateway.md"
ROUTES = [
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "hi"}]},
        chat_create_params.CompletionCreateParamsBase,
        chat_completions.ChatCompletionFields,
        chat_completions.NEUTRAL_VALUES | sampling_fields.NEUTRAL_VALUES,
    ),
    (
        "/v1/completions",
        {"prompt": "a"},
        completion_create_params.CompletionCreateParamsBase,
        completions.CompletionFields,
        completions.NEUTRAL_VALUES | sampling_fields.NEUTRAL_VALUES,
    ),
    (
        "/v1/responses",
        {"input": "hi"},
        response_create_params.ResponseCreateParamsBase,
        responses.ResponseFields,
        responses.NEUTRAL_VALUES,
    ),
]


@pytest.mark.parametrize(("path", "body", "theirs", "ours", "neutral"), ROUTES)
async def test_each_field_is_known_and_what_is_not_done_is_refused_and_documented(
    served: Served,
    client: httpx.AsyncClient,
    path: str,
    body: Any,
    theirs: Any,
    ours: Any,
    neutral: Any,
):
    assert set(theirs.__annotations__) <= set(ours.__struct_fields__)
    docs = DOCS.read_text()
    for field in neutral:
        reply = await client.post(path, json=body | {field: {"asks": "for something"}})
        error = reply.json()["error"]
        assert (reply.status_code, error["param"]) == (400, field)
        assert error["code"] == "unsupported_field"
        assert f"`{field}`" in docs, field
