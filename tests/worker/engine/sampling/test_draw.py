"""Draws from a vocabulary of real size, against a plain reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from services.core.sampling import SamplingParams
from worker.engine.sampling.draw import draw, uniform
from worker.engine.sampling.row import SampleRow

VOCAB_SIZE = 5000
SEED = 17


def _scores(spread: float, num_levels: int | None = None) -> torch.Tensor:
    scores = torch.randn(VOCAB_SIZE, generator=torch.Generator().manual_seed(2)) * spread
    # Few levels: many tokens are exactly as likely as each other, as in bf16.
    return scores if num_levels is None else (scores * num_levels).round() / num_levels


def _plain_draw(scores: torch.Tensor, params: SamplingParams, position: int) -> int:
    """Sort everything, keep what is kept, walk until the noise is used up."""
    probs = (scores / params.temperature).softmax(dim=-1)
    likeliest = float(probs.max())
    weights = [
        (p if p >= params.min_p * likeliest else 0.0, i) for i, p in enumerate(probs.tolist())
    ]
    if params.top_k or params.top_p < 1:
        weights.sort(key=lambda pair: (-pair[0], pair[1]))
        weights = weights[: params.top_k or VOCAB_SIZE]
        total, reached, kept = sum(weight for weight, _ in weights), 0.0, []
        for weight, token_id in weights:
            if kept and reached >= params.top_p * total:
                break
            kept.append((weight, token_id))
            reached += weight
        weights = kept
    target = uniform(SEED, position) * sum(weight for weight, _ in weights)
    for weight, token_id in weights:
        target -= weight
        if target < 0:
            return token_id
    raise AssertionError("noise is below 1")


CASES: dict[str, dict[str, float]] = {
    "plain": {},
    "hot": {"temperature": 1.9},
    "min-p": {"min_p": 0.1},
    "top-k": {"top_k": 40},
    "top-k beyond the candidates": {"top_k": 900},
    "top-p": {"top_p": 0.9},
    "top-p beyond the candidates": {"top_p": 0.97, "temperature": 2.0},
    "all": {"top_k": 60, "top_p": 0.8, "min_p": 0.01, "temperature": 0.7},
}


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("num_levels", [None, 4], ids=["distinct", "ties"])
def test_draws_equal_a_plain_reference(fields: dict[str, float], num_levels: int | None):
    scores = _scores(2.0, num_levels)
    params = SamplingParams(seed=SEED, **fields)  # type: ignore[arg-type]
    rows = [SampleRow(params, position) for position in range(40)]
    drawn = draw(scores.expand(len(rows), -1).contiguous(), rows).tolist()
    assert drawn == [_plain_draw(scores, params, position) for position in range(40)]


@pytest.mark.parametrize("make", [lambda: _scores(0.0), lambda: _scores(1e-3)])
def test_a_flat_distribution_uses_all_of_the_vocabulary(make: Callable[[], torch.Tensor]):
    rows = [SampleRow(SamplingParams(seed=SEED, top_p=0.999), i) for i in range(200)]
    drawn = draw(make().expand(len(rows), -1).contiguous(), rows).tolist()
    assert min(drawn) < 500
    assert max(drawn) > 4400


def test_a_row_is_drawn_the_same_in_any_company():
    scores = torch.stack([_scores(spread) for spread in (0.5, 1.0, 2.0, 4.0)])
    rows = [
        SampleRow(SamplingParams(seed=SEED, top_p=0.99), 3),
        SampleRow(SamplingParams(seed=SEED, top_k=5), 4),
        SampleRow(SamplingParams(seed=SEED), 5),
        SampleRow(SamplingParams(seed=SEED, top_p=0.9), 6),
    ]
    together = draw(scores, rows).tolist()
    assert together == [int(draw(scores[i : i + 1], [rows[i]])) for i in range(4)]
