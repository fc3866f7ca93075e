"""How long this engine's steps take, learned from those that it ran."""

from __future__ import annotations

from services.core.step_fit import StepTimeFit
from services.core.step_time import StepTimeModel, StepWork

_KEEP_SHARE = 0.995
"""Of the weight of earlier steps: a few hundred are remembered, so that a machine that becomes
slower is believed within seconds."""

_MIN_STEPS = 8
_STEPS_PER_FIT = 16
_PRIOR = StepTimeModel(0.0, 0.0, 0.0, 0.0, 0.0)
_TYPICAL_CONTEXT = 256
"""Tokens that a prompt token attends to, when it is not known which prompt it will be."""


class StepTimes:
    """Fits a model of step times, anew every few steps.

    Args:
        known: the times, where they need not be learned: in a simulator, whose steps take them.
    """

    def __init__(self, known: StepTimeModel | None = None) -> None:
        self._fit = StepTimeFit(_PRIOR, _KEEP_SHARE)
        self._model = known or _PRIOR
        self._is_given = known is not None

    @property
    def is_known(self) -> bool:
        """Whether enough steps were seen to say anything."""
        return self._is_given or self._fit.num_steps >= _MIN_STEPS

    @property
    def row_s(self) -> float:
        """What one more decoded token adds to a step."""
        return self._model.decode_s

    @property
    def prefill_token_s(self) -> float:
        """What one more prompt token adds to a step; 0 while none was seen."""
        return self._model.prefill_s + self._model.prefill_pair_s * _TYPICAL_CONTEXT

    def step_s(self, work: StepWork) -> float:
        """What a step of this work takes."""
        return self._model.step_s(work)

    def add(self, work: StepWork, seconds: float) -> None:
        """A step took so long."""
        self._fit.add(work, seconds)
        if self._fit.num_steps == _MIN_STEPS or self._fit.num_steps % _STEPS_PER_FIT == 0:
            self._model = self._fit.model(self._model.max_batched_tokens)
