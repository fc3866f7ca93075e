from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.calibration import CalibrationPlan, calibrate_steps, errors, fit
from benchmarks.prose import TokenStream
from services.core.step_time import StepTimeModel, StepWork

TRUE = StepTimeModel(8e-3, 1e-3, 1e-7, 5e-4, 2e-6, max_batched_tokens=128)
SHAPE = {"max_num_seqs": 8, "max_batched_tokens": 128, "num_blocks": 400, "block_size": 16}


class FakeSteps:
    """Answers as an engine whose steps take exactly what TRUE says: one prompt after the other."""

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def ask(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        self.batch_sizes.append(len(order["prompts"]))
        works: list[StepWork] = []
        for prompt in order["prompts"]:
            for start in range(0, len(prompt), 128):
                num_tokens = min(128, len(prompt) - start)
                works.append(StepWork(num_tokens, num_tokens * (start + num_tokens / 2)))
        num_decodes, context = len(order["prompts"]), sum(map(len, order["prompts"]))
        works += [
            StepWork(num_decodes=num_decodes, num_decode_pairs=context + idx * num_decodes)
            for idx in range(max(order["max_tokens"]))
        ]
        return {"steps": [{"work": asdict(work), "seconds": TRUE.step_s(work)} for work in works]}


def test_the_engines_own_model_is_found_with_no_error():
    engine = FakeSteps()
    found = calibrate_steps(engine, CalibrationPlan(), TokenStream(range(5000)), SHAPE)
    for name, value in asdict(TRUE).items():
        assert found[name] == pytest.approx(value, rel=0.01)
    assert found["fit"]["step_error_p90"] < 0.01
    assert set(engine.batch_sizes) == {1, 2, 4, 8}, "not more at once than the engine takes"


def test_a_term_that_no_step_has_is_free():
    steps = [(StepWork(num_decodes=idx), 0.01 + 0.001 * idx) for idx in range(1, 9)]
    assert fit(steps, 128).prefill_s == 0.0


def test_errors_are_of_steps_and_of_their_sum():
    steps = [(StepWork(num_decodes=1), TRUE.step_s(StepWork(num_decodes=1)) * 2)] * 4
    assert errors(TRUE, steps) == {
        "step_error_p50": 0.5,
        "step_error_p90": 0.5,
        "total_error": -0.5,
    }
