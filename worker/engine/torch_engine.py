"""The engine that computes a real model with torch."""

from __future__ import annotations

from pathlib import Path

from worker.engine.engine_loop import LoopEngine
from worker.engine.runner_choice import load_runner
from worker.engine.settings import EngineSettings


class TorchEngine(LoopEngine):
    """A LoopEngine over a model directory; loads the model when constructed.

    Raises:
        UnsupportedModel: the model cannot be computed rightly on paged attention.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings | None = None) -> None:
        settings = settings or EngineSettings()
        super().__init__(load_runner(model_dir, settings), settings)
