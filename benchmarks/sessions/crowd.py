"""Many conversations at once: how much of their prompts need not be computed, and the tokens."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load_client import Server
from benchmarks.sessions.texts import SETTING, Book
from benchmarks.sessions.turn import Turn, take_turn

Conversation = Sequence[Turn]


@dataclass(frozen=True, slots=True)
class CrowdPlan:
    """How many talk, and how long.

    Attributes:
        num_turns: of each conversation.
        message_tokens: of each message, about.
        answer_tokens: of each answer.
    """

    num_sessions: int = 50
    num_turns: int = 10
    message_tokens: int = 60
    answer_tokens: int = 24


async def talk(server: Server, book: Book, plan: CrowdPlan) -> list[Conversation]:
    """All sessions at once, each turn after the answer to the one before.

    Raises:
        ServerRefused: a turn was refused.
        OSError: a connection failed.
    """

    async def one(session_idx: int) -> Conversation:
        turns: list[Turn] = []
        for turn_idx in range(plan.num_turns):
            message = book.next_page(session_idx, turn_idx, plan.message_tokens)
            if not turn_idx:
                message = f"{SETTING}\n\n{message}"
            session_id = f"crowd-{session_idx}"
            turns.append(await take_turn(server, session_id, message, plan.answer_tokens))
        return turns

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(idx)) for idx in range(plan.num_sessions)]
    return [task.result() for task in tasks]


def hit_share(conversations: Sequence[Conversation], block_size: int) -> float:
    """Blocks found, of all full blocks of all prompts; a block that is not full cannot be found."""
    turns = [turn for conversation in conversations for turn in conversation]
    num_asked = sum((turn.prompt_tokens - 1) // block_size for turn in turns)
    return sum(turn.cached_tokens // block_size for turn in turns) / num_asked


def token_share(conversations: Sequence[Conversation]) -> float:
    """Prompt tokens found, of all; those of blocks that are not full count as not found."""
    turns = [turn for conversation in conversations for turn in conversation]
    return sum(turn.cached_tokens for turn in turns) / sum(turn.prompt_tokens for turn in turns)


def history_share(conversations: Sequence[Conversation]) -> float:
    """Tokens found, of those that earlier turns of the same conversation had computed.

    First turns have none; what they find of others' conversations is not counted here.
    """
    pairs = [
        (_computed_tokens(before), turn.cached_tokens)
        for conversation in conversations
        for before, turn in itertools.pairwise(conversation)
    ]
    return sum(min(pair) for pair in pairs) / sum(computed for computed, _ in pairs)


def num_turns_behind(conversations: Sequence[Conversation], block_size: int) -> int:
    """Turns that did not find all full blocks of their conversation so far."""
    return sum(
        turn.cached_tokens // block_size < _computed_tokens(before) // block_size
        for conversation in conversations
        for before, turn in itertools.pairwise(conversation)
    )


def _computed_tokens(turn: Turn) -> int:
    # The last token of an answer is chosen, not computed.
    return turn.prompt_tokens + len(turn.token_ids) - 1


def tokens_of(conversations: Sequence[Conversation]) -> list[list[tuple[int, ...]]]:
    """What was answered."""
    return [[turn.token_ids for turn in conversation] for conversation in conversations]
