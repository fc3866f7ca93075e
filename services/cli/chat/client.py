"""Asks a running cluster over its public HTTP door, as any user's program would."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from services.cli.failure import CommandFailed

_CONNECT_TIMEOUT_S = 5.0
_DATA = "data: "
_DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt and how to answer it; None leaves the server's choice."""

    prompt: str
    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    ignore_eos: bool = False
    timeout_s: float = 300.0

    def as_json(self) -> dict[str, Any]:
        """Body of POST /v1/chat/completions."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.ignore_eos:
            body["ignore_eos"] = True
        return body


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and when.

    Attributes:
        ttft_s: from sending the question to the first text.
        total_s: to the end of the stream.
        decode_s: from the first text to the last.
    """

    request_id: str
    text: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    ttft_s: float
    total_s: float
    decode_s: float

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed: tokens after the first, over the time they took.

        Of an answer that came in one piece: all tokens over the whole time.
        """
        if self.decode_s > 0:
            return (self.output_tokens - 1) / self.decode_s
        return self.output_tokens / self.total_s


def authorities() -> ssl.SSLContext:
    """Who may vouch for a gateway behind TLS: the system's authorities, or SSL_CERT_FILE's."""
    return ssl.create_default_context()


def key_headers(api_key: str | None) -> dict[str, str]:
    """Headers that show a key; none without one."""
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def ask(
    url: str,
    question: Question,
    on_text: Callable[[str], None] = lambda _: None,
    *,
    api_key: str | None = None,
) -> Answer:
    """Asks, and calls on_text with each piece of the answer as it comes.

    Args:
        url: of a gateway, e.g. http://127.0.0.1:8080.
        question: what to ask.
        on_text: hears each piece.
        api_key: where the gateway asks for one.

    Raises:
        CommandFailed: nobody answers, or the answer is an error.
    """
    timeout = httpx.Timeout(question.timeout_s, connect=_CONNECT_TIMEOUT_S)
    # Without trust_env: a proxy of the user's shell cannot reach this machine's loopback.
    with httpx.Client(
        base_url=url,
        timeout=timeout,
        trust_env=False,
        verify=authorities(),
        headers=key_headers(api_key),
    ) as client:
        return ask_with(client, question, on_text)


def ask_with(
    client: httpx.Client, question: Question, on_text: Callable[[str], None] = lambda _: None
) -> Answer:
    """The same over a client that is open already."""
    try:
        return _stream(client, question, on_text)
    except httpx.TimeoutException as exc:
        raise CommandFailed(
            f"{client.base_url} gave no answer within {question.timeout_s:g} s"
        ) from exc
    except httpx.HTTPError as exc:
        raise CommandFailed(f"{client.base_url} does not answer: {exc}") from exc


def _stream(client: httpx.Client, question: Question, on_text: Callable[[str], None]) -> Answer:
    pieces: list[str] = []
    finish_reason = ""
    usage: dict[str, Any] = {}
    began = time.perf_counter()
    first = last = 0.0
    with client.stream("POST", "/v1/chat/completions", json=question.as_json()) as response:
        if response.status_code != httpx.codes.OK:
            raise CommandFailed(_refusal(response.status_code, response.read()))
        request_id = response.headers.get("x-request-id", "")
        for chunk in _chunks(response.iter_lines()):
            if "error" in chunk:
                raise CommandFailed(f"the answer broke off: {_message(chunk)}")
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices", ()):
                finish_reason = choice.get("finish_reason") or finish_reason
                if text := choice.get("delta", {}).get("content"):
                    last = time.perf_counter()
                    first = first or last
                    pieces.append(text)
                    on_text(text)
    ended = time.perf_counter()
    return Answer(
        request_id=request_id,
        text="".join(pieces),
        finish_reason=finish_reason,
        prompt_tokens=usage.get("prompt_tokens", 0),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
        output_tokens=usage.get("completion_tokens", 0),
        ttft_s=(first or ended) - began,
        total_s=ended - began,
        decode_s=last - first,
    )


def _chunks(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.startswith(_DATA):
            continue
        data = line.removeprefix(_DATA)
        if data == _DONE:
            return
        try:
            yield json.loads(data)
        except ValueError as exc:
            raise CommandFailed(f"the answer holds {data[:80]!r}, which is no JSON") from exc
    raise CommandFailed("the answer broke off before its end")


def _refusal(status: int, body: bytes) -> str:
    try:
        return f"the gateway refused ({status}): {_message(json.loads(body))}"
    except (ValueError, AttributeError):
        return f"the gateway refused ({status}): {body[:200].decode(errors='replace')}"


def _message(body: dict[str, Any]) -> str:
    error = body.get("error", body)
    return str(error.get("message", error) if isinstance(error, dict) else error)
