"""Runs packed steps through a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from worker.engine.model_paths import load_step_model
from worker.engine.pool_runner import PoolRunner
from worker.engine.runner import StepResult
from worker.engine.sampling.reading import read_logits, rows_wanted
from worker.engine.settings import EngineSettings
from worker.engine.step_layout import lay_out
from worker.engine.step_phases import phase
from worker.engine.step_plan import SequenceSlice


class ModelRunner(PoolRunner):
    """A StepRunner over a model directory; loads and checks the model when constructed.

    Raises:
        UnsupportedModel: the model cannot be computed rightly on paged attention.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        self._model = load_step_model(model_dir, settings)
        super().__init__(model_dir, self._model)

    @torch.inference_mode()
    def run(self, slices: Sequence[SequenceSlice]) -> StepResult:
        """Computes the slices in one forward pass."""
        # Kind by kind, so that the rows of a kind are neighbours.
        ordered = sorted(slices, key=lambda piece: piece.is_prefill)
        with phase("layout"):
            step = lay_out(ordered, self._pool)
        wanted = rows_wanted(ordered)
        logits = self._model.compute_logits(step, wanted.rows)
        with phase("sampling"):
            return read_logits(logits, wanted, self._eos_token_ids)
