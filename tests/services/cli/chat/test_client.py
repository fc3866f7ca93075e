import json
from collections.abc import Sequence

import httpx
import pytest

from services.cli.chat.client import Question, ask_with
from services.cli.failure import CommandFailed

QUESTION = Question("hello", "m", max_tokens=3, temperature=0.0)


def sse(chunks: Sequence[object], *, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([": ping\n\n", *lines, "data: [DONE]\n\n" if done else ""]).encode()


def delta(text: str, finish_reason: str | None = None) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish_reason}]}


def client_of(body: bytes, status: int = 200) -> httpx.Client:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, headers={"x-request-id": "req-1"})

    return httpx.Client(transport=httpx.MockTransport(answer), base_url="http://gateway")


def test_an_answer_is_heard_piece_by_piece_and_told_with_its_figures():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    role = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    body = sse([role, delta("Hel"), delta("lo", "stop"), {"choices": [], "usage": usage}])
    heard: list[str] = []
    with client_of(body) as client:
        answer = ask_with(client, QUESTION, heard.append)
    assert heard == ["Hel", "lo"]
    assert (answer.text, answer.finish_reason, answer.request_id) == ("Hello", "stop", "req-1")
    assert (answer.prompt_tokens, answer.cached_tokens, answer.output_tokens) == (9, 4, 3)
    assert 0 < answer.ttft_s <= answer.total_s


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"error": {"message": "max_tokens is 0"}}', 400, r"\(400\): max_tokens is 0"),
        (b"<html>", 502, r"\(502\): <html>"),
        (sse([delta("a"), {"error": {"message": "worker lost"}}]), 200, "worker lost"),
        (sse([delta("a")], done=False), 200, "broke off before its end"),
        (b"data: {\n\n", 200, "no JSON"),
    ],
)
def test_a_refusal_or_a_broken_answer_is_one_sentence(body: bytes, status: int, said: str):
    with client_of(body, status) as client, pytest.raises(CommandFailed, match=said):
        ask_with(client, QUESTION)


def test_nobody_there_is_one_sentence():
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    transport = httpx.MockTransport(refuse)
    with (
        httpx.Client(transport=transport, base_url="http://gateway") as client,
        pytest.raises(CommandFailed, match=r"gateway.* does not answer: connection refused"),
    ):
        ask_with(client, QUESTION)
