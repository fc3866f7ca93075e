"""How long this worker's steps take, learnt from those that it ran."""

from __future__ import annotations

from services.core.step_fit import StepTimeFit
from services.core.step_time import StepTimeModel
from worker.engine.port import StepReport

MIN_STEPS = 16
"""Before so many steps nothing is said: the first ones warm caches up."""

KEEP_SHARE = 0.999
"""What a step weighs after the next one: a thousand steps back, a third."""

MIN_LONG_STEPS = 64
"""Prefills behind LONG_CONTEXT before what attention costs is told apart: from a few short prompts
the fit takes noise for it, and long prompts then look many times dearer than they are."""

LONG_CONTEXT = 1024
"""Tokens that a prompt token sees on average, from which on attention shows in a step's time."""

REFIT_STEPS = 16
"""A new model is worked out after so many more steps."""


class StepMeter:
    """Hears step reports; lives on the event loop."""

    def __init__(self, max_batched_tokens: int) -> None:
        self._max_batched_tokens = max_batched_tokens
        self._fit = StepTimeFit(keep_share=KEEP_SHARE)
        self._num_long = 0
        self._has_prefilled = False
        self._model: StepTimeModel | None = None
        self._num_fitted = 0

    def on_step(self, report: StepReport) -> None:
        """Learns of one step."""
        work = report.work
        if not work.num_prefill_tokens and not work.num_decodes:
            return
        self._has_prefilled |= work.num_prefill_tokens > 0
        self._fit.add(work, (report.ended_ns - report.started_ns) / 1e9)
        self._num_long += work.num_prefill_pairs > LONG_CONTEXT * work.num_prefill_tokens

    def model(self) -> StepTimeModel | None:
        """The times so far; None while too little was seen."""
        num_steps = self._fit.num_steps
        if num_steps < MIN_STEPS or not self._has_prefilled:
            return None
        if self._model is None or num_steps - self._num_fitted >= REFIT_STEPS:
            self._model = self._fit.model(
                self._max_batched_tokens, with_prefill_pairs=self._num_long >= MIN_LONG_STEPS
            )
            self._num_fitted = num_steps
        return self._model
