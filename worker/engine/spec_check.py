"""Whether a sequence can be run at all."""

from __future__ import annotations

from services.core.errors import InvalidRequest
from services.core.sampling import check_sampling
from worker.engine.port import SequenceSpec


def find_fault(spec: SequenceSpec, *, vocab_size: int, max_model_len: int) -> str | None:
    """Why this sequence can never run, in one sentence; None if it can.

    The gateway has checked all this already. It is checked again because one id out of range would
    fail the step of everybody else.
    """
    if not spec.prompt_token_ids:
        return "prompt is empty; at least 1 token is needed"
    num_prompt = len(spec.prompt_token_ids)
    if num_prompt >= max_model_len:
        return (
            f"prompt has {num_prompt} tokens; the engine takes {max_model_len} tokens"
            " and at least one must remain for the answer"
        )
    num_tokens = num_prompt + len(spec.delivered_token_ids)
    if num_tokens > max_model_len:
        return f"prompt and answer so far have {num_tokens} tokens; limit {max_model_len}"
    for token_id in (*spec.prompt_token_ids, *spec.delivered_token_ids):
        if not 0 <= token_id < vocab_size:
            return f"token id is {token_id}; allowed: 0 to {vocab_size - 1}"
    try:
        check_sampling(spec.sampling, vocab_size=vocab_size)
    except InvalidRequest as exc:
        return exc.message
    return None
