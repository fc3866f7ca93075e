"""What is asked of every side: the same prompts, the same answers' lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.prose import TokenStream

NEW_TOKENS = 128
DECODE_PROMPT_TOKENS = 128
PREFILL_TOKENS = 512
REQUESTS_OF = {1: 4, 4: 8, 8: 16, 16: 32, 32: 32}
"""How many requests a cell with so many clients takes: the first of the prose, which has the same
mix of lengths at every beginning."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Tokens per second of one sequence, its prefill taken out."""

    name: str = "decode alone"


@dataclass(frozen=True, slots=True)
class Prefill:
    """Prompt tokens per second, to the first new token."""

    name: str = "prefill 512"


@dataclass(frozen=True, slots=True)
class Clients:
    """New tokens per second of so many clients, each asking again when it has its answer."""

    num_clients: int

    @property
    def name(self) -> str:
        """Of the cell."""
        return f"{self.num_clients} client{'s' if self.num_clients > 1 else ''}"


Cell = Decode | Prefill | Clients
CELLS: tuple[Cell, ...] = (Decode(), Prefill(), *(Clients(count) for count in REQUESTS_OF))


def cells_named(names: Sequence[str]) -> tuple[Cell, ...]:
    """Cells by name, in the order of the table; none: all.

    Raises:
        ValueError: a name is unknown; says which there are.
    """
    allowed = [cell.name for cell in CELLS]
    for name in names:
        if name not in allowed:
            raise ValueError(f"cell is {name!r}; allowed: {', '.join(allowed)}")
    return tuple(cell for cell in CELLS if not names or cell.name in names)


class Runs(Protocol):
    """Whoever completes prompts of token ids and tells the seconds that it took."""

    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> float:
        """Seconds until all prompts have max_tokens more, so many at once."""
        ...


def decode_tps(side: Runs, stream: TokenStream) -> float:
    """The decode cell: what more tokens take longer; no side need tell when its first came."""
    longer_s, shorter_s = (
        side.run([stream.cut(DECODE_PROMPT_TOKENS)], max_tokens, 1)
        for max_tokens in (NEW_TOKENS, 1)
    )
    return (NEW_TOKENS - 1) / (longer_s - shorter_s)


def prefill_tps(side: Runs, stream: TokenStream) -> float:
    """The prefill cell."""
    return PREFILL_TOKENS / side.run([stream.cut(PREFILL_TOKENS)], 1, 1)
