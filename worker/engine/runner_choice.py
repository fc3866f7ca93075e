"""Which runner serves a model on a device."""

from __future__ import annotations

from pathlib import Path

import structlog

from worker.engine.device import choose_device
from worker.engine.errors import UnsupportedModel
from worker.engine.lean.config import NotLean
from worker.engine.model_runner import ModelRunner
from worker.engine.runner import StepRunner
from worker.engine.settings import EngineSettings

log = structlog.get_logger(__name__)


def load_runner(model_dir: Path, settings: EngineSettings) -> StepRunner:
    """A runner with its model loaded.

    Raises:
        UnsupportedModel: no path that was allowed computes it.
    """
    device = choose_device(settings.device)
    if device.type != "cuda" or settings.path == "general":
        return ModelRunner(model_dir, settings)
    from worker.engine.cuda.runner import CudaRunner

    try:
        return CudaRunner(model_dir, settings, device)
    except NotLean as exc:
        if settings.path != "auto":
            raise UnsupportedModel(architecture=model_dir.name, why=str(exc)) from exc
        # Right, but many times slower: reference attention, no graphs.
        log.warning("path.general_chosen", why=str(exc))
        return ModelRunner(model_dir, settings)
