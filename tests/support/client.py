"""Asks a cluster as a client would, and keeps what came back, token by token."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class StreamedAnswer:
    """A streamed chat completion: its first choice, and those beside it by index."""

    request_id: str = ""
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    is_done: bool = False
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    others: dict[int, StreamedAnswer] = field(default_factory=dict)


async def stream_chat(
    url: str,
    body: dict[str, Any],
    *,
    on_tokens: Callable[[StreamedAnswer], None] | None = None,
    headers: dict[str, str] | None = None,
) -> StreamedAnswer:
    """Streams a chat completion with token ids.

    Args:
        url: base URL of a gateway.
        body: request without `stream`.
        on_tokens: called after each chunk that came after the first token.
        headers: more headers.
    """
    answer = StreamedAnswer()
    sent = {
        **body,
        "stream": True,
        "return_token_ids": True,
        "stream_options": {"include_usage": True},
    }
    async with (
        httpx.AsyncClient(timeout=120) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json=sent, headers=headers) as reply,
    ):
        if reply.status_code != 200:
            await reply.aread()
            raise AssertionError(f"{reply.status_code}: {reply.text}")
        answer.request_id = reply.headers["x-request-id"]
        async with aclosing(_events(reply)) as events:
            async for event in events:
                take(answer, event)
                if on_tokens is not None and answer.token_ids:
                    on_tokens(answer)
    return answer


def take(answer: StreamedAnswer, event: str) -> None:
    """Adds one server-sent event to an answer."""
    if event == "[DONE]":
        answer.is_done = True
        return
    chunk = json.loads(event)
    if "error" in chunk:
        answer.error = chunk["error"]
        return
    answer.usage = chunk.get("usage") or answer.usage
    for choice in chunk["choices"]:
        of = answer if choice["index"] == 0 else _other(answer, choice["index"])
        of.text += choice["delta"].get("content") or ""
        of.token_ids += choice.get("token_ids") or []
        of.logprobs += (choice.get("logprobs") or {}).get("content") or []
        of.finish_reason = choice["finish_reason"] or of.finish_reason


def _other(answer: StreamedAnswer, index: int) -> StreamedAnswer:
    return answer.others.setdefault(index, StreamedAnswer())


async def _events(reply: httpx.Response) -> AsyncIterator[str]:
    async for line in reply.aiter_lines():
        if line.startswith("data: "):
            yield line.removeprefix("data: ")
