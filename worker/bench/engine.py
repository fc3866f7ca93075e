"""The bare engine, timed step by step: `python -m worker.bench.engine` takes these orders.

    {"do": "generate", "prompts": [[ids], ...], "max_tokens": N}   submitted at once; greedy,
        unless there is a "temperature"
    {"do": "profile", "prompts": [[ids], ...], "max_tokens": N}    the same, under the profiler
    {"do": "steps", "prompts": [[ids], ...], "max_tokens": [N, ...]}   each to a length of its own
    {"do": "roofline"}                                             what the machine can do

No prompt finds another's blocks: each sequence is a tenant of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from services.core.errors import InvalidRequest
from services.core.sampling import SamplingParams
from worker.bench.clock import StepClock
from worker.bench.orders import take_orders
from worker.engine.port import Engine, SequenceSpec


class BenchEngine:
    """Carries out orders on a started engine; the clock is its listener."""

    def __init__(self, engine: Engine, clock: StepClock) -> None:
        self._engine = engine
        self._clock = clock
        self._num_sequences = 0

    def carry_out(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """One order, one answer.

        Raises:
            InvalidRequest: there is no such order.
            TokenmillError: the engine failed.
        """
        match order.get("do"):
            case "generate":
                return self.generate(
                    order["prompts"], order["max_tokens"], order.get("temperature", 0.0)
                )
            case "profile":
                # Here, with torch: the fake engine is measured without.
                from worker.bench.step_profile import profiled

                return profiled(lambda: self.generate(order["prompts"], order["max_tokens"]))
            case "steps":
                return {"steps": self.steps(order["prompts"], order["max_tokens"])}
            case "roofline":
                from worker.bench.roofline import measure_machine

                return measure_machine()
            case other:
                raise InvalidRequest(
                    f"do is {other!r}; allowed: generate, profile, steps, roofline", field="do"
                )

    def generate(
        self, prompts: Sequence[Sequence[int]], max_tokens: int, temperature: float = 0.0
    ) -> dict[str, Any]:
        """Runs prompts together, to max_tokens each; times are seconds."""
        began = self._submit(prompts, [max_tokens] * len(prompts), temperature)
        return self._clock.wait(began)

    def steps(
        self, prompts: Sequence[Sequence[int]], max_tokens: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Runs prompts together; what each step computed, and its seconds."""
        self._submit(prompts, max_tokens)
        return [
            {"work": asdict(work), "seconds": seconds} for work, seconds in self._clock.wait_steps()
        ]

    def _submit(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: Sequence[int],
        temperature: float = 0.0,
    ) -> float:
        specs: list[SequenceSpec] = []
        for ids, num_tokens in zip(prompts, max_tokens, strict=True):
            self._num_sequences += 1
            name = str(self._num_sequences)
            sampling = SamplingParams(
                max_tokens=num_tokens, temperature=temperature, seed=0, ignore_eos=True
            )
            specs.append(SequenceSpec(name, ids, sampling, tenant=name))
        self._clock.expect([spec.seq_id for spec in specs])
        began = time.perf_counter()
        for spec in specs:
            self._engine.submit(spec)
        return began


def main() -> int:
    """The program; returns its exit status."""
    clock = StepClock()
    return take_orders(clock, lambda engine, _: BenchEngine(engine, clock).carry_out)


if __name__ == "__main__":
    sys.exit(main())
