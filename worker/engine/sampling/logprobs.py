"""How likely tokens were, by the model alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.core.logprobs import TokenLogprobs

_MAX_ROWS = 64
"""Rows at once, so that a long prompt does not need its logits in memory twice."""


def logprobs_of(
    logits: torch.Tensor, token_ids: Sequence[int], num_top: Sequence[int]
) -> list[TokenLogprobs]:
    """Log-probabilities per row, before penalties, bias and temperature.

    Args:
        logits: (num_rows, vocab_size), any float dtype; not changed.
        token_ids: the token of each row.
        num_top: how many of the likeliest tokens to report of each row.
    """
    found: list[TokenLogprobs] = []
    for first in range(0, len(token_ids), _MAX_ROWS):
        end = first + _MAX_ROWS
        found += _of_rows(logits[first:end], token_ids[first:end], num_top[first:end])
    return found


def _of_rows(
    logits: torch.Tensor, token_ids: Sequence[int], num_top: Sequence[int]
) -> list[TokenLogprobs]:
    logprobs = logits.to(torch.float32).log_softmax(dim=-1)
    own = logprobs.gather(-1, torch.tensor(token_ids, device=logits.device)[:, None])[:, 0]
    values, ids = logprobs.topk(min(max(num_top), logprobs.shape[-1]), dim=-1)
    return [
        TokenLogprobs(logprob, tuple(top_ids[:count]), tuple(top_values[:count]))
        for logprob, top_ids, top_values, count in zip(
            own.tolist(), ids.tolist(), values.tolist(), num_top, strict=True
        )
    ]
