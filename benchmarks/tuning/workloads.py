"""Three loads to tune for: people who chat, work that nobody watches, and both at once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice


@dataclass(frozen=True, slots=True)
class Question:
    """One request: its prompt, and how long the answer is; ends of sequence are ignored."""

    prompt: str
    max_tokens: int


Client = tuple[Question, ...]
"""Asked one after the other, each when the answer before it is complete."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A load of fixed work.

    Attributes:
        what: in words, for the report.
        goal: what is wished for where the user says nothing.
        clients: all at once, given texts and a word that no other window has.
    """

    name: str
    what: str
    goal: str
    clients: Callable[[Sequence[str], str], list[Client]]


def chat_clients(
    texts: Sequence[str], mark: str, *, num_clients: int, num_turns: int, max_tokens: int
) -> list[Client]:
    """Conversations: each prompt holds the ones before it, as histories do."""
    clients: list[Client] = []
    for idx in range(num_clients):
        turns = (texts[(idx + num_clients * turn) % len(texts)][:240] for turn in range(num_turns))
        prompts = accumulate(turns, lambda history, turn: f"{history}\n{turn}")
        clients.append(
            tuple(Question(f"({mark}c{idx}) {prompt}", max_tokens) for prompt in prompts)
        )
    return clients


def document_clients(
    texts: Sequence[str],
    mark: str,
    *,
    num_clients: int,
    num_each: int,
    num_chars: int,
    max_tokens: int,
) -> list[Client]:
    """Unrelated documents, cut to a length or repeated to it."""
    drawn = iter(range(num_clients * num_each))
    return [
        tuple(
            Question(f"({mark}d{idx}) {_stretched(texts[idx % len(texts)], num_chars)}", max_tokens)
            for idx in islice(drawn, num_each)
        )
        for _ in range(num_clients)
    ]


def _stretched(text: str, num_chars: int) -> str:
    return (text * (num_chars // len(text) + 1))[:num_chars]


WORKLOADS: Mapping[str, Workload] = {
    one.name: one
    for one in (
        Workload(
            "chat",
            "4 people, conversations of 4 turns, answers of 48 tokens",
            "p95 ttft < 300ms, max throughput",
            lambda texts, mark: chat_clients(
                texts, mark, num_clients=4, num_turns=4, max_tokens=48
            ),
        ),
        Workload(
            "batch",
            "48 documents of some 130 tokens at once, answers of 48 tokens",
            "max throughput",
            lambda texts, mark: document_clients(
                texts, mark, num_clients=48, num_each=1, num_chars=600, max_tokens=48
            ),
        ),
        Workload(
            "mixed",
            "4 people who chat as above, 3 turns, beside 2 clients with 3 documents of some 450"
            " tokens each, answers of 48 tokens",
            "p95 ttft < 2s, max throughput",
            lambda texts, mark: [
                *chat_clients(texts, mark, num_clients=4, num_turns=3, max_tokens=48),
                *document_clients(
                    texts, mark, num_clients=2, num_each=3, num_chars=2_000, max_tokens=48
                ),
            ],
        ),
    )
}
