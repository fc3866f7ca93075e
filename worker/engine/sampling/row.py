"""What one row of logits is sampled by."""

from __future__ import annotations

from dataclasses import dataclass

from services.core.sampling import SamplingParams
from worker.engine.sampling.history import TokenHistory


@dataclass(frozen=True, slots=True)
class SampleRow:
    """What one row's token depends on beside its logits.

    Attributes:
        position: output position, from 0.
        history: tokens before the position; needed if params penalise them.
    """

    params: SamplingParams
    position: int
    history: TokenHistory | None = None
