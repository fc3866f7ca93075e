"""One turn of a chat session, as a client of the HTTP door sees it."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass

from benchmarks.load_client import Server, ServerRefused, post_events

_ROUTE = "/api/chat/message"


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer.

    Attributes:
        ttft_s: from asking to the first token.
    """

    request_id: str
    ttft_s: float
    token_ids: tuple[int, ...]
    prompt_tokens: int
    cached_tokens: int


async def take_turn(server: Server, session_id: str, message: str, max_tokens: int) -> Turn:
    """Says something in a session and reads the answer, greedy and of a fixed length.

    Raises:
        ServerRefused: an error instead of an answer, or within it.
        OSError: the connection failed.
    """
    body = {
        "message": message,
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    began = time.perf_counter()
    ttft_s, token_ids = 0.0, []
    events = post_events(server, _ROUTE, body, {"x-session-id": session_id})
    last: dict = {}
    async with aclosing(events):
        async for last in events:
            token_ids += last["token_ids"]
            if token_ids and not ttft_s:
                ttft_s = time.perf_counter() - began
    usage = last.get("usage")
    if not usage:
        raise ServerRefused("broken stream", "it ended without usage")
    return Turn(
        last["request_id"],
        ttft_s,
        tuple(token_ids),
        usage["prompt_tokens"],
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
    )
