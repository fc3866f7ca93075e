"""How long this engine's steps take, learned from those that it ran."""

from __future__ import annotations

import statistics
from collections import deque

from services.core.step_fit import StepTimeFit
from services.core.step_time import StepTimeModel, StepWork

_KEEP_SHARE = 0.995
"""Of the weight of earlier steps: a few hundred are remembered, so that a machine that becomes
slower is believed within seconds."""

_MIN_STEPS = 8
_STEPS_PER_FIT = 16
_PRIOR = StepTimeModel(0.0, 0.0, 0.0, 0.0, 0.0)
_NUM_RECENT = 9
"""Steps that tell how fast the machine is now. Their median: one that somebody cut short of its CPU
is no news."""
_TYPICAL_CONTEXT = 256
"""Tokens that a prompt token attends to, when it is not known which prompt it will be."""


class StepTimes:
    """Fits a model of step times, anew every few steps, and holds the last steps against it.

    The model tells terms apart, which takes hundreds of steps; what it has wrong, or what another
    load on the machine makes of it, shows in the last few, whose times all estimates are scaled to.

    Args:
        known: the times, where they need not be learned: in a simulator, whose steps take them.
    """

    def __init__(self, known: StepTimeModel | None = None) -> None:
        self._fit = StepTimeFit(_PRIOR, _KEEP_SHARE)
        self._model = known or _PRIOR
        self._is_given = known is not None
        self._recent: deque[tuple[StepWork, float]] = deque(maxlen=_NUM_RECENT)

    @property
    def is_known(self) -> bool:
        """Whether enough steps were seen to say anything."""
        return self._is_given or self._fit.num_steps >= _MIN_STEPS

    @property
    def row_s(self) -> float:
        """What one more decoded token adds to a step."""
        return self._model.decode_s * self._slowness()

    @property
    def prefill_token_s(self) -> float:
        """What one more prompt token adds to a step; 0 while none was seen."""
        model = self._model
        return (model.prefill_s + model.prefill_pair_s * _TYPICAL_CONTEXT) * self._slowness()

    def step_s(self, work: StepWork) -> float:
        """What a step of this work takes."""
        return self._model.step_s(work) * self._slowness()

    def add(self, work: StepWork, seconds: float) -> None:
        """A step took so long."""
        self._recent.append((work, seconds))
        self._fit.add(work, seconds)
        if self._fit.num_steps == _MIN_STEPS or self._fit.num_steps % _STEPS_PER_FIT == 0:
            self._model = self._fit.model(self._model.max_batched_tokens)

    def _slowness(self) -> float:
        """What the last steps took of what the model says."""
        expected = ((seconds, self._model.step_s(work)) for work, seconds in self._recent)
        ratios = [seconds / model_s for seconds, model_s in expected if model_s > 0]
        return statistics.median(ratios) if ratios else 1.0
