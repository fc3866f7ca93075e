import httpx
import pytest

from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MAX_MODEL_LEN


async def test_text_goes_to_ids_and_back(served: Served, client: httpx.AsyncClient):
    reply = await client.post("/tokenize", json={"prompt": "abc", "return_token_strs": True})
    assert reply.json() == {
        "count": 3,
        "max_model_len": MAX_MODEL_LEN,
        "tokens": [0, 1, 2],
        "token_strs": ["a", "b", "c"],
    }
    back = await client.post("/detokenize", json={"tokens": reply.json()["tokens"]})
    assert back.json() == {"prompt": "abc"}


async def test_a_conversation_goes_through_the_template(served: Served, client: httpx.AsyncClient):
    messages = [{"role": "user", "content": "ab"}]
    reply = await client.post("/tokenize", json={"messages": messages})
    assert reply.json()["tokens"] == [0, 1]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": ""}, "prompt"),
        ("/tokenize", {"prompt": "a", "model": "x"}, "model"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": []}, "tokens"),
        ("/detokenize", {"tokens": [99]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
    ],
)
async def test_bad_input_names_its_field(
    served: Served, client: httpx.AsyncClient, path: str, body: dict[str, object], field: str
):
    reply = await client.post(path, json=body)
    assert reply.status_code in (400, 404)
    assert reply.json()["error"]["param"] == field
