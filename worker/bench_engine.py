"""The bare engine under a benchmark's orders, over stdin and stdout.

`python -m worker.bench_engine`, with a worker's environment. It says a line `{"ready": true, ...}`
when the engine is loaded; then each line is one order and is answered by one line:

    {"do": "generate", "prompts": [[ids], ...], "max_tokens": N}   submitted at once, greedy
    {"do": "profile", "prompts": [[ids], ...], "max_tokens": N}    the same, under the profiler
    {"do": "roofline"}                                             what the machine can do

No prompt finds another's blocks: each sequence is a tenant of its own. It ends when stdin does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from services.core.errors import InvalidRequest, TokenmillError
from services.core.sampling import SamplingParams
from services.runtime.settings import read_settings
from worker.bench_clock import StepClock
from worker.engine.factory import build_engine
from worker.engine.port import Engine, SequenceSpec
from worker.fake_engine_settings import fake_model_from
from worker.settings import WorkerSettings


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
                return self.generate(order["prompts"], order["max_tokens"])
            case "profile":
                # Here, with torch: the fake engine is measured without.
                from worker.step_profile import profiled

                return profiled(lambda: self.generate(order["prompts"], order["max_tokens"]))
            case "roofline":
                from worker.roofline import measure_machine

                return measure_machine()
            case other:
                raise InvalidRequest(
                    f"do is {other!r}; allowed: generate, profile, roofline", field="do"
                )

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> dict[str, Any]:
        """Runs prompts together, to max_tokens each; times are seconds."""
        sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0, seed=0, ignore_eos=True)
        specs: list[SequenceSpec] = []
        for ids in prompts:
            self._num_sequences += 1
            name = str(self._num_sequences)
            specs.append(SequenceSpec(name, ids, sampling, tenant=name))
        self._clock.expect([spec.seq_id for spec in specs])
        began = time.perf_counter()
        for spec in specs:
            self._engine.submit(spec)
        return self._clock.wait(began)


def main() -> int:
    """The program; returns its exit status."""
    # stdout is for answers.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    began = time.perf_counter()
    try:
        settings = read_settings(WorkerSettings)
        fake_model = fake_model_from(settings) if settings.engine == "fake" else None
        engine = build_engine(
            settings.engine, settings.model_dir, settings.engine_settings(), fake_model
        )
        clock = StepClock()
        bench = BenchEngine(engine, clock)
        engine.start(clock)
        _say(
            {
                "ready": True,
                "load_s": round(time.perf_counter() - began, 3),
                "kv_dtype": engine.layout.dtype,
                # What this build knows; a setting that it lacks was passed over in silence.
                "settings": sorted(WorkerSettings.model_fields),
            }
        )
        for line in sys.stdin:
            _say(bench.carry_out(json.loads(line)))
        engine.stop()
    except TokenmillError as exc:
        _say({"error": exc.message})
        return 1
    return 0


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
