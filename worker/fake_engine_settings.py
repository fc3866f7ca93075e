"""The fake engine's pace, from a worker's settings."""

from __future__ import annotations

import dataclasses

from services.runtime import faults
from worker.engine.factory import fake_model_of
from worker.engine.fake_engine import FakeModel
from worker.settings import WorkerSettings


def fake_model_from(settings: WorkerSettings) -> FakeModel:
    """Vocabulary and context of the model directory, pace of the settings."""
    return dataclasses.replace(
        fake_model_of(settings.model_dir),
        step_time_s=settings.fake_step_time_s,
        prefill_s_per_token=settings.fake_prefill_s_per_token,
        delay_s=lambda: faults.delay_s(faults.STEP),
    )
