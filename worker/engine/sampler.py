"""The next token of every sequence that samples in a step.

Order: bans, temperature, min-p, top-k, top-p, draw; all in float32. A row's token depends on its
own logits, parameters and output position, and on nothing else in the batch: noise is a hash of
(seed, position), so it survives preemption, resumption and another worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import pack

import torch

from services.core.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class SampleRow:
    """What one row's token depends on beside its logits; position counts output tokens from 0."""

    params: SamplingParams
    position: int


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1), the same for ever for one (seed, output position)."""
    digest = blake2b(pack("<qq", seed, position), digest_size=8, person=b"tokenmill-draw")
    return (int.from_bytes(digest.digest(), "little") >> 11) * 2.0**-53


def sample(
    logits: torch.Tensor, rows: Sequence[SampleRow], eos_token_ids: frozenset[int]
) -> list[int | None]:
    """Chooses a token per row.

    Args:
        logits: (num_rows, vocab_size), any float dtype; not changed.
        rows: one per row of logits.
        eos_token_ids: banned, with the row's stop ids, until its min_tokens are there.

    Returns:
        Token ids; None where no token can be chosen because a logit is NaN or all are banned.
    """
    scores = logits.to(torch.float32, copy=True)
    for row_idx, row in enumerate(rows):
        if row.position < row.params.min_tokens:
            ends = set(row.params.stop_token_ids)
            if not row.params.ignore_eos:
                ends |= eos_token_ids
            scores[row_idx, sorted(ends)] = float("-inf")
    # NaN and "all are -inf" both make the maximum useless; +inf would make the softmax NaN.
    is_usable = torch.isfinite(scores.amax(dim=-1)).tolist()
    chosen = scores.argmax(dim=-1)
    drawn = [i for i, row in enumerate(rows) if row.params.temperature > 0 and is_usable[i]]
    # By their own needs: whether a mate needs a sort must not change how a row is drawn.
    for group in (
        [i for i in drawn if not _needs_order(rows[i].params)],
        [i for i in drawn if _needs_order(rows[i].params)],
    ):
        if group:
            mates = [rows[i] for i in group]
            chosen[group] = _draw(scores[group], mates, in_order=_needs_order(mates[0].params))
    return [
        token_id if usable else None
        for token_id, usable in zip(chosen.tolist(), is_usable, strict=True)
    ]


def _needs_order(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1.0


def _draw(scores: torch.Tensor, rows: Sequence[SampleRow], *, in_order: bool) -> torch.Tensor:
    """Inverse transform sampling of every row: (num_rows, vocab_size) -> (num_rows,)."""
    device = scores.device
    probs = (scores / _column([row.params.temperature for row in rows], device)).softmax(dim=-1)
    min_p = _column([row.params.min_p for row in rows], device)
    probs.masked_fill_(probs < min_p * probs.amax(dim=-1, keepdim=True), 0.0)
    order = None
    if in_order:
        # Stable, so that equal probabilities keep the order of their ids everywhere.
        probs, order = probs.sort(dim=-1, descending=True, stable=True)
        probs = _keep_top(probs, rows)
    # Sums of 100 000 small numbers: float32 would shift the edges between tokens.
    edges = probs.double().cumsum(dim=-1)
    points = torch.tensor(
        [uniform(row.params.seed or 0, row.position) for row in rows],
        dtype=torch.float64,
        device=device,
    )
    targets = points[:, None] * edges[:, -1:]
    picks = torch.searchsorted(edges, targets, right=True)
    # Rounding can put the target on the last edge: the last token with a probability takes it.
    last = probs.shape[-1] - 1 - (probs > 0).flip(-1).int().argmax(dim=-1, keepdim=True)
    picks = torch.minimum(picks, last)
    return (picks if order is None else order.gather(-1, picks))[:, 0]


def _keep_top(probs: torch.Tensor, rows: Sequence[SampleRow]) -> torch.Tensor:
    """Zeros what top-k and then top-p leave out of rows sorted by falling probability."""
    vocab_size = probs.shape[-1]
    top_k = torch.tensor([row.params.top_k or vocab_size for row in rows], device=probs.device)[
        :, None
    ]
    ranks = torch.arange(vocab_size, device=probs.device)
    probs = probs.masked_fill(ranks >= top_k, 0.0)
    edges = probs.double().cumsum(dim=-1)
    before = edges - probs
    top_p = torch.tensor([row.params.top_p for row in rows], device=probs.device).double()
    # What is kept is the smallest set that reaches top_p: the token that crosses it is in.
    is_beyond = before >= top_p[:, None] * edges[:, -1:]
    is_beyond[:, 0] = False
    return probs.masked_fill(is_beyond, 0.0)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None]
