"""Turns over a socket, and figures that can be worked out by hand."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from benchmarks.load_client import Server, ServerRefused
from benchmarks.sessions.crowd import (
    CrowdPlan,
    history_share,
    hit_share,
    num_turns_behind,
    talk,
    token_share,
    tokens_of,
)
from benchmarks.sessions.second_turn import SecondTurnPlan, SecondTurns, cached_share, ttft_ms
from benchmarks.sessions.turn import Turn, take_turn


class FakeBook:
    """Says which piece is meant instead of it."""

    def opening(self, session_idx: int, num_tokens: int) -> str:
        return f"opening {session_idx} of {num_tokens}"

    def next_page(self, session_idx: int, turn_idx: int, num_tokens: int) -> str:
        return f"page {turn_idx} of {session_idx}"


class FakeGateway:
    """Answers each turn with two tokens, of which it found half of the prompt."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.heard: list[tuple[str, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        self.heard.append((fields["x-session-id"], body["message"]))
        usage: dict[str, Any] = {
            "prompt_tokens": 8,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 4},
        }
        events = [
            {"request_id": "r", "text": "", "token_ids": [5], "finish_reason": None},
            {"request_id": "r", "text": "a", "token_ids": [6], "finish_reason": "length"},
        ]
        events[-1]["usage"] = usage
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        writer.write(f"HTTP/1.1 {self.status}\r\n\r\n{text}data: [DONE]\n\n".encode())
        await writer.drain()
        writer.close()


def with_gateway(gateway: FakeGateway, work: Any) -> Any:
    async def run() -> Any:
        server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
        async with server:
            return await work(Server("127.0.0.1", server.sockets[0].getsockname()[1]))

    return asyncio.run(run())


def test_a_turn_has_its_tokens_and_what_was_found():
    turn = with_gateway(FakeGateway(), lambda server: take_turn(server, "s", "hello", 2))
    assert (turn.token_ids, turn.prompt_tokens, turn.cached_tokens) == ((5, 6), 8, 4)
    assert turn.ttft_s > 0


def test_a_refused_turn_is_no_answer():
    with pytest.raises(ServerRefused, match="http 429"):
        with_gateway(FakeGateway("429 Slow"), lambda server: take_turn(server, "s", "hello", 2))


def test_conversations_go_on_in_their_own_sessions():
    gateway = FakeGateway()
    plan = CrowdPlan(num_sessions=2, num_turns=2)
    found = with_gateway(gateway, lambda server: talk(server, FakeBook(), plan))  # type: ignore
    assert sorted(session for session, _ in gateway.heard) == ["crowd-0"] * 2 + ["crowd-1"] * 2
    assert token_share(found) == 0.5
    assert hit_share(found, block_size=3) == 0.5
    assert tokens_of(found) == [[(5, 6), (5, 6)]] * 2


def test_second_turns_leave_out_those_for_warming_up():
    gateway = FakeGateway()
    plan = SecondTurnPlan(num_sessions=1, num_warm_up=1, history_tokens=200)

    async def both(server: Server) -> list[Turn]:
        turns = SecondTurns(server, FakeBook(), plan)  # type: ignore[arg-type]
        await turns.begin("here")
        return await turns.go_on("here")

    measured = with_gateway(gateway, both)
    assert [session for session, _ in gateway.heard] == ["here-0", "here-1"] * 2
    assert len(measured) == 1
    assert cached_share(measured) == 0.5
    assert ttft_ms(measured)["p50"] > 0


def test_what_a_conversation_computed_is_counted_apart_from_its_first_turn():
    def turn(prompt_tokens: int, cached_tokens: int) -> Turn:
        return Turn("r", 0.1, (1, 2, 3), prompt_tokens, cached_tokens)

    # After the first turn 12 tokens are computed, after the second 22.
    conversation = [turn(10, 8), turn(20, 12), turn(30, 16)]
    assert history_share([conversation]) == (12 + 16) / (12 + 22)
    # Of 22 tokens five blocks of 4 are full; four were found.
    assert num_turns_behind([conversation], 4) == 1
