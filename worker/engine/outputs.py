"""What a step's tokens mean to a sequence, and what is told of them."""

from __future__ import annotations

from services.core.request import FinishReason
from worker.engine.port import SequenceOutput
from worker.engine.runner import NO_TOKENS, SampledTokens
from worker.engine.sequence import LiveSequence


def take_tokens(
    seq: LiveSequence, sampled: SampledTokens, eos_token_ids: frozenset[int]
) -> tuple[SampledTokens, FinishReason | None]:
    """Adds tokens to a sequence as far as its end; returns those that it took, and the end."""
    if len(sampled.token_ids) == 1:
        seq.append(sampled.token_ids[0])
        return sampled, seq.finish_reason(eos_token_ids)
    reason: FinishReason | None = None
    num_taken = 0
    for token_id in sampled.token_ids:
        seq.append(token_id)
        num_taken += 1
        reason = seq.finish_reason(eos_token_ids)
        if reason is not None:
            break
    taken = SampledTokens(sampled.token_ids[:num_taken], sampled.logprobs[:num_taken])
    return taken, reason


def output_of(
    seq: LiveSequence,
    taken: SampledTokens = NO_TOKENS,
    reason: FinishReason | None = None,
    error_message: str = "",
) -> SequenceOutput:
    """News of a sequence that has taken these tokens; the first tells of its prompt too."""
    is_first, seq.has_reported = not seq.has_reported, True
    return SequenceOutput(
        seq.seq_id,
        seq.num_output - len(taken.token_ids),
        taken.token_ids,
        finish_reason=reason,
        error_message=error_message,
        cached_tokens=seq.cached_tokens if is_first else 0,
        logprobs=taken.logprobs,
        prompt_logprobs=seq.prompt_logprobs if is_first else (),
    )
