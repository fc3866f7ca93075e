"""The next token of every sequence that samples in a step.

Order: what steers single logits, then temperature, min-p, top-k, top-p, draw; all in float32. A
row's token depends on its own logits, parameters, history and output position, and on nothing else
in the batch: noise is a hash of (seed, position), so it survives preemption, resumption and
another worker.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from worker.engine.sampling.draw import draw
from worker.engine.sampling.row import SampleRow
from worker.engine.sampling.steering import is_steered, steer


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
    steered = [idx for idx, row in enumerate(rows) if is_steered(row)]
    scores = logits.to(torch.float32, copy=bool(steered))
    if len(steered) == len(rows):
        steer(scores, rows, eos_token_ids)
    elif steered:
        some = scores[steered]
        steer(some, [rows[idx] for idx in steered], eos_token_ids)
        scores[steered] = some
    largest, chosen = _largest(scores)
    # NaN and "all are -inf" both make the maximum useless; +inf would make the softmax NaN.
    is_usable = torch.isfinite(largest).tolist()
    drawn = [i for i, row in enumerate(rows) if row.params.temperature > 0 and is_usable[i]]
    if drawn:
        chosen[drawn] = draw(scores[drawn], [rows[i] for i in drawn])
    return [
        token_id if usable else None
        for token_id, usable in zip(chosen.tolist(), is_usable, strict=True)
    ]


def _largest(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each row, the value and where it is first: (num_rows,) each. A NaN counts as largest."""
    if scores.device.type != "cpu":
        largest, chosen = scores.max(dim=-1)
        return largest, chosen
    # Vectorised, where torch compares one by one, and without waking torch's threads beside the
    # kernels' own.
    chosen = torch.from_numpy(scores.numpy().argmax(axis=-1))
    return scores.gather(-1, chosen[:, None])[:, 0], chosen
