"""Draws tokens from scores: temperature, min-p, top-k, top-p, then inverse transform sampling.

How a row is drawn is decided by the row alone, never by its mates, so that its token is the same in
any company.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from struct import pack

import torch
from torch.nn import functional

from services.core.sampling import SamplingParams
from worker.engine.sampling.row import SampleRow

_NUM_CANDIDATES = 512
"""Likeliest tokens that are put in order first: nearly always enough, and sorting the whole
vocabulary costs more than computing it."""

_CHUNK = 512
"""Tokens whose probabilities are summed before the draw looks among them."""


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1), the same for ever for one (seed, output position)."""
    digest = blake2b(pack("<qq", seed, position), digest_size=8, person=b"tokenmill-draw")
    return (int.from_bytes(digest.digest(), "little") >> 11) * 2.0**-53


def draw(scores: torch.Tensor, rows: Sequence[SampleRow]) -> torch.Tensor:
    """A token per row.

    Args:
        scores: (num_rows, vocab_size) float32; the largest of each row is finite.
        rows: one per row of scores, temperature above 0.

    Returns:
        (num_rows,) int64.
    """
    device = scores.device
    probs = (scores / _column([row.params.temperature for row in rows], device)).softmax(dim=-1)
    min_p = _column([row.params.min_p for row in rows], device)
    probs.masked_fill_(probs < min_p * probs.amax(dim=-1, keepdim=True), 0.0)
    points = torch.tensor(
        [uniform(row.params.seed or 0, row.position) for row in rows],
        dtype=torch.float64,
        device=device,
    )[:, None]
    chosen = torch.empty(len(rows), dtype=torch.int64, device=device)
    ordered = [i for i, row in enumerate(rows) if _needs_order(row.params)]
    plain = [i for i, row in enumerate(rows) if not _needs_order(row.params)]
    if plain:
        chosen[plain] = _pick_by_chunks(probs[plain], points[plain])
    if ordered:
        params = [rows[i].params for i in ordered]
        chosen[ordered] = _draw_in_order(probs[ordered], params, points[ordered])
    return chosen


def _needs_order(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1.0


def _draw_in_order(
    probs: torch.Tensor, params: Sequence[SamplingParams], points: torch.Tensor
) -> torch.Tensor:
    """Rows that keep only their likeliest tokens: (num_rows, vocab_size) -> (num_rows,)."""
    totals = probs.sum(dim=-1, keepdim=True, dtype=torch.float64)
    top_k = torch.tensor([p.top_k for p in params], device=probs.device)[:, None]
    top_p = torch.tensor([p.top_p for p in params], dtype=torch.float64, device=probs.device)
    kept = _Kept(top_k, top_p[:, None], totals)
    likeliest, ids, is_enough = _candidates(probs, kept)
    chosen = ids.gather(-1, _pick(kept.of(likeliest), points))[:, 0]
    rest = [i for i, enough in enumerate(is_enough.tolist()) if not enough]
    if rest:
        # Stable, so that equal probabilities keep the order of their ids everywhere.
        likeliest, ids = probs[rest].sort(dim=-1, descending=True, stable=True)
        picks = _pick(kept.rows(rest).of(likeliest), points[rest])
        chosen[rest] = ids.gather(-1, picks)[:, 0]
    return chosen


class _Kept:
    """What top-k and then top-p leave of rows in order; all values (num_rows, 1)."""

    def __init__(self, top_k: torch.Tensor, top_p: torch.Tensor, totals: torch.Tensor) -> None:
        self.top_k = top_k
        self.top_p = top_p
        self.totals = totals

    def rows(self, row_ids: list[int]) -> _Kept:
        """The same of some rows."""
        return _Kept(self.top_k[row_ids], self.top_p[row_ids], self.totals[row_ids])

    def of(self, likeliest: torch.Tensor) -> torch.Tensor:
        """Zeros what is left out of probabilities in falling order."""
        ranks = torch.arange(likeliest.shape[-1], device=likeliest.device)
        is_limited = self.top_k > 0
        likeliest = likeliest.masked_fill(is_limited & (ranks >= self.top_k), 0.0)
        edges = likeliest.double().cumsum(dim=-1)
        totals = torch.where(is_limited, edges[:, -1:], self.totals)
        # What is kept is the smallest set that reaches top_p: the token that crosses it is in.
        is_beyond = edges - likeliest >= self.top_p * totals
        # 1 means all of them, however the sums were rounded; the likeliest is always in.
        is_beyond &= self.top_p < 1.0
        is_beyond[:, 0] = False
        return likeliest.masked_fill(is_beyond, 0.0)


def _candidates(
    probs: torch.Tensor, kept: _Kept
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The likeliest tokens in order, zeros after them; and whether they are all that is kept.

    Returns:
        (num_rows, num_candidates) probabilities and ids, and (num_rows,) bool.
    """
    values, ids = probs.topk(min(_NUM_CANDIDATES, probs.shape[-1]), dim=-1)
    # Which of several equal ones topk takes last is open: only what is above them is certain.
    least = values[:, -1:]
    ids, by_id = ids.sort(dim=-1)
    values = values.gather(-1, by_id)
    values = values.masked_fill(values <= least, 0.0)
    values, by_prob = values.sort(dim=-1, descending=True, stable=True)
    ids = ids.gather(-1, by_prob)
    num_certain = (values > 0).sum(dim=-1, keepdim=True)
    has_top_k = (kept.top_k > 0) & (kept.top_k <= num_certain)
    reached = values.double().sum(dim=-1, keepdim=True)
    has_top_p = (kept.top_k == 0) & (reached >= kept.top_p * kept.totals) & (kept.top_p < 1.0)
    return values, ids, (has_top_k | has_top_p | (least == 0))[:, 0]


def _pick_by_chunks(probs: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Inverse transform sampling in the order of ids: first a chunk, then a token in it."""
    padded = functional.pad(probs, (0, -probs.shape[-1] % _CHUNK))
    chunks = padded.view(len(probs), -1, _CHUNK)
    # Sums of 100 000 small numbers: float32 would shift the edges between tokens.
    sums = chunks.sum(dim=-1, dtype=torch.float64)
    edges = sums.cumsum(dim=-1)
    targets = points * edges[:, -1:]
    chunk_idx = _first_above(sums, targets)
    inside = chunks.gather(1, chunk_idx[:, :, None].expand(-1, 1, _CHUNK))[:, 0]
    begins = edges.gather(-1, chunk_idx) - sums.gather(-1, chunk_idx)
    return (chunk_idx * _CHUNK + _first_above(inside, targets - begins))[:, 0]


def _pick(weights: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Index by weight: (num_rows, n) and (num_rows, 1) in [0, 1) -> (num_rows, 1)."""
    totals = weights.double().cumsum(dim=-1)[:, -1:]
    return _first_above(weights, points * totals)


def _first_above(weights: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    edges = weights.double().cumsum(dim=-1)
    picks = torch.searchsorted(edges, targets, right=True)
    # Rounding can put the target on the last edge: the last with any weight takes it.
    last = weights.shape[-1] - 1 - (weights > 0).flip(-1).int().argmax(dim=-1, keepdim=True)
    return torch.minimum(picks, last)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None]
