"""What the stack costs: through HTTP against the engine in-process, in turn, the same prompts.

Both sides run in one measurement, one after the other and never at once, so that what the machine
does besides falls on both and cancels out of the differences and ratios.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.core.percentile import percentile

PROMPTS_FILE = Path(__file__).with_name("data") / "prompts.json"
SETTLE_S = 0.2
"""Between the sides: what one still does after its last token (offers to the cache, spans) must
not run into the other's time."""

_MS = 1000.0


@dataclass(frozen=True, slots=True)
class OverheadPlan:
    """How much is measured.

    Attributes:
        num_rounds: how often each prompt is asked on each side, alone; and how often a batch.
        concurrency: requests at once in a batch.
        max_tokens: length of every answer; ends of sequence are ignored.
    """

    num_rounds: int = 2
    concurrency: int = 8
    max_tokens: int = 48


@dataclass(frozen=True, slots=True)
class Timing:
    """One answer.

    Attributes:
        ttft_s: from asking to the first token.
        total_s: from asking to the last.
    """

    ttft_s: float
    total_s: float
    prompt_tokens: int
    output_tokens: int


class Side(Protocol):
    """One way to the engine."""

    def run(self, prompts: Sequence[str], max_tokens: int) -> Sequence[Timing]:
        """Asks all prompts at once and waits for all answers."""
        ...


def load_prompts() -> list[str]:
    """The prompts of this benchmark."""
    return json.loads(PROMPTS_FILE.read_text())


def measure_overhead(
    stack: Side,
    engine: Side,
    plan: OverheadPlan,
    *,
    prompts: Sequence[str],
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, float | int]:
    """Asks both sides in turn and compares.

    Args:
        stack: through HTTP.
        engine: in-process.
        plan: how much.
        prompts: what is asked.
        pause: waits for so many seconds between the sides.

    Returns:
        Figures; throughput_ratio is stack over engine, 1 would be free of cost.
    """
    # Another beginning in each run: neither side may find the prompt in a cache.
    run_id = secrets.token_hex(2)
    sides = (stack, engine)
    for side in sides:
        side.run([f"({run_id}) warm up"], plan.max_tokens)

    alone: dict[Side, list[Timing]] = {stack: [], engine: []}
    together: dict[Side, list[float]] = {stack: [], engine: []}
    for round_idx in range(plan.num_rounds):
        asked = [f"({run_id}-{round_idx}-{idx}) {text}" for idx, text in enumerate(prompts)]
        for idx, prompt in enumerate(asked):
            # Each side goes first as often as the other.
            for side in sides if idx % 2 == 0 else reversed(sides):
                pause(SETTLE_S)
                alone[side] += side.run([prompt], plan.max_tokens)
        batch = [
            f"({run_id}-{round_idx}-batch-{idx}) {prompts[idx % len(prompts)]}"
            for idx in range(plan.concurrency)
        ]
        for side in sides if round_idx % 2 == 0 else reversed(sides):
            pause(SETTLE_S)
            began = time.perf_counter()
            timings = side.run(batch, plan.max_tokens)
            wall_s = time.perf_counter() - began
            together[side].append(sum(timing.output_tokens for timing in timings) / wall_s)
    return _compare(alone[stack], alone[engine], together[stack], together[engine])


def _compare(
    stack: Sequence[Timing],
    engine: Sequence[Timing],
    stack_rates: Sequence[float],
    engine_rates: Sequence[float],
) -> dict[str, float | int]:
    added_ms = [(a.ttft_s - b.ttft_s) * _MS for a, b in zip(stack, engine, strict=True)]
    batch_ratios = [a / b for a, b in zip(stack_rates, engine_rates, strict=True)]
    alone_ratios = [_rate(a) / _rate(b) for a, b in zip(stack, engine, strict=True)]
    differing = sum(a.prompt_tokens != b.prompt_tokens for a, b in zip(stack, engine, strict=True))
    return {
        "added_ttft_ms_p50": round(percentile(added_ms, 0.5), 2),
        "added_ttft_ms_p90": round(percentile(added_ms, 0.9), 2),
        "throughput_ratio": round(percentile(batch_ratios, 0.5), 3),
        "throughput_ratio_alone": round(percentile(alone_ratios, 0.5), 3),
        "stack_ttft_ms_p50": round(percentile([t.ttft_s for t in stack], 0.5) * _MS, 2),
        "engine_ttft_ms_p50": round(percentile([t.ttft_s for t in engine], 0.5) * _MS, 2),
        "stack_tokens_per_s": round(percentile(stack_rates, 0.5), 1),
        "engine_tokens_per_s": round(percentile(engine_rates, 0.5), 1),
        "num_pairs": len(stack),
        "num_prompts_of_other_length": differing,
    }


def _rate(timing: Timing) -> float:
    return timing.output_tokens / timing.total_s
