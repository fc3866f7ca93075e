"""Which path computes a model."""

from __future__ import annotations

from pathlib import Path

import structlog
import torch

from worker.engine.device import choose_device
from worker.engine.errors import UnsupportedModel
from worker.engine.lean.config import NotLean
from worker.engine.lean.load import load_lean
from worker.engine.lean.model import LeanModel
from worker.engine.lean.native_model import NativeModel
from worker.engine.settings import EngineSettings
from worker.engine.step_model import StepModel

log = structlog.get_logger(__name__)


@torch.inference_mode()
def load_step_model(model_dir: Path, settings: EngineSettings) -> StepModel:
    """Loads a model on the path that settings ask for; auto tries the fastest first.

    Raises:
        UnsupportedModel: no path that was allowed computes it.
    """
    if settings.path != "general":
        try:
            return _load_from_weights(model_dir, settings)
        except NotLean as exc:
            only_lean = settings.quantization != "none" or settings.kv_dtype == "int8"
            if only_lean or settings.path in ("lean", "native"):
                raise UnsupportedModel(architecture=model_dir.name, why=str(exc)) from exc
            log.info("path.general_chosen", why=str(exc))
    # Here: transformers takes seconds to import.
    from worker.engine.general_model import GeneralModel

    return GeneralModel(model_dir, settings)


def _load_from_weights(model_dir: Path, settings: EngineSettings) -> StepModel:
    if choose_device(settings.device).type != "cpu":
        raise NotLean("a path for CPUs")
    loaded = load_lean(model_dir, settings)
    if settings.path != "lean":
        try:
            return NativeModel(loaded, settings)
        except NotLean as exc:
            if settings.path == "native":
                raise
            log.info("path.lean_chosen", why=str(exc))
    return LeanModel(loaded, settings)
