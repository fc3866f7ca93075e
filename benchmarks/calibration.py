"""How long a worker's steps take: which steps to look at, the fit, and how far it is off."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from benchmarks.prose import TokenStream
from services.core.percentile import percentile
from services.core.step_fit import StepTimeFit
from services.core.step_time import StepTimeModel, StepWork

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
MAX_LATE_CONTEXT = 2_048
"""Prompt of the one sequence that tells what attending to many tokens costs."""

TimedStep = tuple[StepWork, float]


class Steps(Protocol):
    """An engine under orders, as `benchmarks.children.Child` is one."""

    def ask(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Gives an order and waits for the answer."""
        ...


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """How much is measured.

    Attributes:
        num_rounds: the last one is not fitted but predicted, to say how far off the fit is.
        max_tokens: of the longest answer; the others end earlier, so that all batch sizes occur.
    """

    num_rounds: int = 3
    max_tokens: int = 24
    seed: int = 0


def calibrate_steps(
    engine: Steps, plan: CalibrationPlan, stream: TokenStream, shape: Mapping[str, int]
) -> dict[str, Any]:
    """Runs an engine and fits its steps.

    Args:
        engine: takes the order `steps` of `worker.bench.engine`.
        plan: how much.
        stream: prompts are cut from it.
        shape: `max_num_seqs`, `max_batched_tokens`, `num_blocks`, `block_size` of the engine.

    Returns:
        The coefficients, as `simulate --step-model` reads them, and the fit's error.
    """
    chance = random.Random(plan.seed)
    rounds: list[list[TimedStep]] = []
    # One more, before the clock counts: caches and buffers find their size.
    for _ in range(plan.num_rounds + 1):
        rounds.append(
            [
                step
                for order in orders(plan, stream, shape, chance)
                for step in _timed(engine.ask(order)["steps"])
            ]
        )
    fitted, held_out = [step for steps in rounds[1:-1] for step in steps], rounds[-1]
    budget = shape["max_batched_tokens"]
    partial = fit(fitted, budget)
    return {
        **asdict(fit([*fitted, *held_out], budget)),
        "fit": {"num_steps": len(fitted) + len(held_out), **errors(partial, held_out)},
    }


def orders(
    plan: CalibrationPlan, stream: TokenStream, shape: Mapping[str, int], chance: random.Random
) -> Iterable[dict[str, Any]]:
    """Batches of all sizes, of long and short prompts and answers, and one long context."""
    room = shape["num_blocks"] * shape["block_size"] // 2
    for size in BATCH_SIZES:
        if size > shape["max_num_seqs"]:
            break
        longest = max(16, min(512, room // size))
        yield {
            "do": "steps",
            "prompts": [stream.cut(chance.randint(8, longest)) for _ in range(size)],
            "max_tokens": [chance.randint(2, plan.max_tokens) for _ in range(size)],
        }
    long_context = min(MAX_LATE_CONTEXT, room)
    yield {
        "do": "steps",
        "prompts": [stream.cut(long_context)],
        "max_tokens": [plan.max_tokens],
    }


def fit(steps: Iterable[TimedStep], max_batched_tokens: int) -> StepTimeModel:
    """The model of these steps; a term that none of them has is free."""
    found = StepTimeFit(StepTimeModel(0.0, 0.0, 0.0, 0.0, 0.0))
    for work, seconds in steps:
        found.add(work, seconds)
    return found.model(max_batched_tokens)


def errors(model: StepTimeModel, steps: Sequence[TimedStep]) -> dict[str, float]:
    """How far predictions are off: of single steps, and of all together."""
    each = [abs(model.step_s(work) / seconds - 1) for work, seconds in steps]
    predicted_s = sum(model.step_s(work) for work, _ in steps)
    return {
        "step_error_p50": round(percentile(each, 0.5), 4),
        "step_error_p90": round(percentile(each, 0.9), 4),
        "total_error": round(predicted_s / sum(seconds for _, seconds in steps) - 1, 4),
    }


def _timed(steps: Iterable[Mapping[str, Any]]) -> list[TimedStep]:
    return [(StepWork(**step["work"]), step["seconds"]) for step in steps]
