"""What changes single logits before a token is drawn.

Order: allowed and banned tokens, ends before min_tokens, bias, penalties. All rows at once: an
edit is a list of (row, token) places in the flat scores, so a row that asks for nothing costs
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from worker.engine.sampling.row import SampleRow


def is_steered(row: SampleRow) -> bool:
    """Whether any logit of the row may change."""
    params = row.params
    return (
        row.position < params.min_tokens
        or params.penalizes
        or bool(params.logit_bias or params.allowed_token_ids or params.banned_token_ids)
    )


def steer(scores: torch.Tensor, rows: Sequence[SampleRow], eos_token_ids: frozenset[int]) -> None:
    """Changes scores in place.

    Args:
        scores: (num_rows, vocab_size) float32, contiguous.
        rows: one per row of scores.
        eos_token_ids: banned, with the row's stop ids, until its min_tokens are there.
    """
    _allow(scores, rows)
    vocab_size = scores.shape[1]
    flat = scores.view(-1)
    banned: list[int] = []
    biased: list[int] = []
    biases: list[float] = []
    for row_idx, row in enumerate(rows):
        first = row_idx * vocab_size
        banned.extend(first + token_id for token_id in _banned_ids(row, eos_token_ids))
        for token_id, bias in row.params.logit_bias:
            biased.append(first + token_id)
            biases.append(bias)
    if banned:
        flat[torch.tensor(banned, device=scores.device)] = float("-inf")
    if biased:
        # No place twice: an id has one bias.
        flat[torch.tensor(biased, device=scores.device)] += torch.tensor(
            biases, dtype=torch.float32, device=scores.device
        )
    _penalize(scores, rows)


def _allow(scores: torch.Tensor, rows: Sequence[SampleRow]) -> None:
    limited = [idx for idx, row in enumerate(rows) if row.params.allowed_token_ids]
    if not limited:
        return
    vocab_size = scores.shape[1]
    places = [
        place * vocab_size + token_id
        for place, row_idx in enumerate(limited)
        for token_id in rows[row_idx].params.allowed_token_ids
    ]
    is_left_out = torch.ones(len(limited), vocab_size, dtype=torch.bool, device=scores.device)
    is_left_out.view(-1)[torch.tensor(places, device=scores.device)] = False
    scores[limited] = scores[limited].masked_fill(is_left_out, float("-inf"))


def _banned_ids(row: SampleRow, eos_token_ids: frozenset[int]) -> set[int]:
    banned = set(row.params.banned_token_ids)
    if row.position < row.params.min_tokens:
        banned.update(row.params.stop_token_ids)
        if not row.params.ignore_eos:
            banned |= eos_token_ids
    return banned


def _penalize(scores: torch.Tensor, rows: Sequence[SampleRow]) -> None:
    """Repetition by sign, then presence and frequency by subtraction.

    Source: CTRL, Keskar et al. 2019, section 4.1, for repetition; OpenAI's API reference for the
    other two.
    """
    penalized = [(idx, row) for idx, row in enumerate(rows) if row.params.penalizes]
    if not penalized:
        return
    vocab_size = scores.shape[1]
    places: list[np.ndarray] = []
    factors: list[np.ndarray] = []
    amounts: list[np.ndarray] = []
    for row_idx, row in penalized:
        history, params = row.history, row.params
        assert history is not None, "a row that penalises has its history"
        counts = history.answer_counts
        places.append(row_idx * vocab_size + history.token_ids)
        factors.append(np.full(len(counts), params.repetition_penalty, dtype=np.float32))
        amount = params.frequency_penalty * counts + params.presence_penalty * (counts > 0)
        amounts.append(amount.astype(np.float32))
    flat = scores.view(-1)
    where = torch.from_numpy(np.concatenate(places)).to(scores.device)
    factor = torch.from_numpy(np.concatenate(factors)).to(scores.device)
    amount = torch.from_numpy(np.concatenate(amounts)).to(scores.device)
    before = flat[where]
    flat[where] = torch.where(before > 0, before / factor, before * factor) - amount
