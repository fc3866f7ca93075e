"""The second turn of a chat with a long history: how long until its first token."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load_client import Server
from benchmarks.sessions.texts import Book, question
from benchmarks.sessions.turn import Turn, take_turn
from services.core.percentile import percentile

_MS = 1000.0
SETTLE_S = 0.2
"""Before each measured turn: what the last one still does must not run into its time."""


@dataclass(frozen=True, slots=True)
class SecondTurnPlan:
    """How much is measured.

    Attributes:
        num_sessions: measured in each place.
        num_warm_up: sessions before them that are not.
        history_tokens: before the second turn, about.
        answer_tokens: of each answer.
    """

    num_sessions: int = 20
    num_warm_up: int = 2
    history_tokens: int = 1500
    answer_tokens: int = 16

    @property
    def session_idxs(self) -> range:
        """All of them, those for warming up first."""
        return range(self.num_sessions + self.num_warm_up)

    @property
    def opening_tokens(self) -> int:
        """Of a first message, so that it makes the history with the answer and the template."""
        return self.history_tokens - self.answer_tokens - 60


class SecondTurns:
    """Sessions of one server. The same texts in each place; the sessions are each place's own.

    Args:
        server: where.
        book: what is talked about.
        plan: how much.
    """

    def __init__(self, server: Server, book: Book, plan: SecondTurnPlan) -> None:
        self._server = server
        self._book = book
        self._plan = plan

    async def begin(self, place: str) -> None:
        """First turns of the sessions that shall go on in a place.

        Raises:
            ServerRefused: a turn was refused.
            OSError: a connection failed.
        """
        for idx in self._plan.session_idxs:
            opening = self._book.opening(idx, self._plan.opening_tokens)
            await take_turn(self._server, f"{place}-{idx}", opening, self._plan.answer_tokens)

    async def go_on(self, place: str) -> list[Turn]:
        """Their second turns, one after the other; those for warming up are left out.

        Raises:
            ServerRefused: a turn was refused.
            OSError: a connection failed.
        """
        turns: list[Turn] = []
        for idx in self._plan.session_idxs:
            await asyncio.sleep(SETTLE_S)
            said = question(idx)
            session_id = f"{place}-{idx}"
            turns.append(await take_turn(self._server, session_id, said, self._plan.answer_tokens))
        return turns[self._plan.num_warm_up :]


def ttft_ms(turns: Sequence[Turn]) -> dict[str, float]:
    """Median and spread."""
    values = [turn.ttft_s * _MS for turn in turns]
    return {
        "p50": round(percentile(values, 0.5), 2),
        "p10": round(percentile(values, 0.1), 2),
        "p90": round(percentile(values, 0.9), 2),
    }


def cached_share(turns: Sequence[Turn]) -> float:
    """Prompt tokens that were found, of all."""
    return sum(turn.cached_tokens for turn in turns) / sum(turn.prompt_tokens for turn in turns)
