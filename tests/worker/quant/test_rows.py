from __future__ import annotations

import torch

from worker.quant.rows import join_halves, round_rows


def _rows() -> torch.Tensor:
    rows = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    rows[:, 3] = 300.0
    return rows


def test_a_row_is_rounded_by_its_own_magnitude():
    rows = _rows()
    codes, scales = round_rows(rows, is_precise=False)
    alone, scale = round_rows(rows[2:3], is_precise=False)
    assert torch.equal(codes[2:3], alone)
    assert torch.equal(scales[2:3], scale)
    assert codes.abs().max() == 127


def test_two_codes_see_what_an_outlier_hides():
    rows = _rows()
    codes, scales = round_rows(rows, is_precise=True)
    back = join_halves(codes, is_precise=True) * scales
    assert (back - rows).abs().max() < 300 / 127 / 254


def test_a_row_of_zeros_gives_zeros():
    codes, scales = round_rows(torch.zeros(1, 8), is_precise=False)
    assert (codes * scales == 0).all()
