"""Rows that are multiplied, rounded to int8 each by itself: no row feels another."""

from __future__ import annotations

import torch


def round_rows(rows: torch.Tensor, is_precise: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rounds each row to 127 steps of its largest magnitude.

    Returns:
        codes: float32 holding integers -127..127, like rows; if precise, twice as many rows: the
            second half is what is left, in 254ths of a step.
        scales: (num_rows, 1).
    """
    scales = rows.abs().amax(dim=1, keepdim=True).div_(127).clamp_min_(1e-30)
    exact = rows / scales
    codes = exact.round()
    if not is_precise:
        return codes, scales
    return torch.cat((codes, exact.sub_(codes).mul_(254).round_())), scales


def join_halves(out: torch.Tensor, is_precise: bool) -> torch.Tensor:
    """Puts together what the two halves of precise codes gave; (num_rows, n)."""
    if not is_precise:
        return out
    codes, rest = out.chunk(2)
    return codes.add_(rest, alpha=1 / 254)
