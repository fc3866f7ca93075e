"""Runs a step so that one sequence's failure is that sequence's alone."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from services.core.logprobs import TokenLogprobs
from worker.engine.runner import SampledTokens, StepResult, StepRunner
from worker.engine.step_plan import SequenceSlice

log = structlog.get_logger(__name__)


def run_guarded(runner: StepRunner, slices: Sequence[SequenceSlice]) -> StepResult:
    """Runs a step; if it raises, runs each of its slices alone. Never raises an Exception.

    Running alone gives the others the same tokens that the whole step would have given.
    """
    try:
        return runner.run(slices)
    except Exception as exc:
        if len(slices) == 1:
            seq_id = slices[0].seq.seq_id
            log.exception("step.failed", seq_id=seq_id)
            return StepResult(errors={seq_id: f"{type(exc).__name__}: {exc}"})
        log.warning("step.split", num_seqs=len(slices), error=str(exc))
    tokens: dict[str, SampledTokens] = {}
    errors: dict[str, str] = {}
    prompt_logprobs: dict[str, Sequence[TokenLogprobs]] = {}
    for alone in slices:
        result = run_guarded(runner, [alone])
        tokens.update(result.tokens)
        errors.update(result.errors)
        prompt_logprobs.update(result.prompt_logprobs)
    return StepResult(tokens, errors, prompt_logprobs)
