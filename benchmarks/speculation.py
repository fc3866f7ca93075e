"""What guessing ahead gains: the same answers with and without it, in turn.

Two kinds of work where an answer repeats its prompt: summaries of prose, and edits of code. Both
engines are loaded before the first measurement, and who begins changes with each round.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from benchmarks.prose import load_prose
from benchmarks.quiet import alone

MODES = ("off", "ngram")
KINDS = ("summary", "code-edit")
_CODE_FILE = Path(__file__).with_name("data") / "code_edits.json"
_MIN_PROSE_TOKENS, _MAX_PROSE_TOKENS = 150, 300


@dataclass(frozen=True, slots=True)
class SpeculationPlan:
    """How much is measured.

    Attributes:
        num_rounds: how often each cell.
        num_prompts: of each kind.
        max_tokens: length of every answer.
        temperatures: each is a cell; 0 is greedy.
        batch_sizes: prompts that are answered together.
    """

    num_rounds: int = 3
    num_prompts: int = 4
    max_tokens: int = 96
    temperatures: Sequence[float] = (0.0, 0.7)
    batch_sizes: Sequence[int] = (1, 4)


class Ordered(Protocol):
    """Something that carries out orders (benchmarks.children.Child)."""

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Gives an order and waits for the answer."""
        ...


def prompts_of(kind: str, tokenizer: Tokenizer, count: int) -> list[list[int]]:
    """Prompts of a kind as token ids; a model without instructions goes on with them too."""
    if kind == "summary":
        pieces = (
            prose.text
            for prose in load_prose()
            if _MIN_PROSE_TOKENS <= prose.num_tokens <= _MAX_PROSE_TOKENS
        )
        texts = [f"Text:\n{piece}\n\nThe main points of the text:\n" for piece in pieces]
    else:
        edits = json.loads(_CODE_FILE.read_text())
        texts = [
            f"```python\n{edit['code']}```\n\n{edit['order']}\n\n```python\n" for edit in edits
        ]
    return [tokenizer.encode(text).ids for text in texts[:count]]


def measure_speculation(
    children: Mapping[str, Ordered],
    plan: SpeculationPlan,
    tokenizer: Tokenizer,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Output tokens per second with and without guesses.

    Args:
        children: loaded engines by mode.
        plan: how much.
        tokenizer: of the model.
        report: hears of progress.

    Returns:
        By kind: by "temperature T, N at a time": of each mode tokens/s, their ratio as `gain`, and
        how many tokens a step gave.
    """
    return {
        kind: {
            f"temperature {temperature:g}, {size} at a time": _cell(
                children, plan, prompts_of(kind, tokenizer, plan.num_prompts), temperature, size
            )
            for temperature in plan.temperatures
            for size in plan.batch_sizes
            if not report(f"{kind}, temperature {temperature:g}, {size} at a time")
        }
        for kind in KINDS
    }


def _cell(
    children: Mapping[str, Ordered],
    plan: SpeculationPlan,
    prompts: Sequence[Sequence[int]],
    temperature: float,
    size: int,
) -> dict[str, Any]:
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    per_step: dict[str, list[float]] = {mode: [] for mode in MODES}
    # The first round is for warming up: it teaches the engine what its steps cost.
    for round_idx in range(plan.num_rounds + 1):
        for mode in MODES if round_idx % 2 else MODES[::-1]:
            with alone():
                runs = [
                    children[mode].ask(
                        {
                            "do": "generate",
                            "prompts": prompts[first : first + size],
                            "max_tokens": plan.max_tokens,
                            "temperature": temperature,
                        }
                    )
                    for first in range(0, len(prompts), size)
                ]
            if round_idx:
                num_tokens = sum(run["num_output_tokens"] for run in runs)
                rates[mode].append(num_tokens / sum(run["wall_s"] for run in runs))
                per_step[mode].append(num_tokens / sum(run["num_steps"] for run in runs))
    medians = {mode: statistics.median(rates[mode]) for mode in MODES}
    return {
        "tokens_per_s": {mode: round(medians[mode], 1) for mode in MODES},
        "gain": round(medians["ngram"] / medians["off"], 3),
        "tokens_per_step": {mode: round(statistics.median(per_step[mode]), 2) for mode in MODES},
    }
