from __future__ import annotations

import torch

from worker.quant.int4_grid import round_to_int4
from worker.quant.matrices import (
    GROUP_SIZE,
    Int4Matrix,
    dequantize,
    int8_codes,
    pack_codes,
    round_to_int8,
    size_bytes,
)


def _weight(num_rows: int = 48, num_columns: int = 128, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_rows, num_columns, generator=torch.Generator().manual_seed(seed))


def test_int8_is_half_a_step_off_at_most():
    weight = _weight()
    matrix = round_to_int8(weight)
    half_steps = weight.abs().amax(dim=1, keepdim=True) / 254
    assert ((dequantize(matrix) - weight).abs() <= half_steps * 1.0001).all()


def test_a_row_of_zeros_stays_zero():
    assert (dequantize(round_to_int8(torch.zeros(2, 64))) == 0).all()
    assert (dequantize(round_to_int4(torch.zeros(2, 64), torch.ones(64))) == 0).all()


def test_packed_codes_come_back():
    codes = torch.randint(0, 16, (5, 96), generator=torch.Generator().manual_seed(1))
    ones = torch.ones(5, 3)
    matrix = Int4Matrix(
        pack_codes(codes), ones.to(torch.uint8), (0 * ones).to(torch.int8), torch.ones(5)
    )
    assert torch.equal(int8_codes(matrix).long(), codes)


def test_what_lies_on_a_grid_stays_where_it_is():
    generator = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 16, (8, 64), generator=generator).float()
    codes[:, 0::GROUP_SIZE], codes[:, 1::GROUP_SIZE] = 0, 15
    # The row's scale follows from its largest value, 127 steps away from zero.
    weight = 127 - 9 * (15 - codes)
    assert torch.equal(dequantize(round_to_int4(weight, torch.ones(64))), weight)


def test_int4_takes_real_half_bytes():
    weight = _weight(256, 512)
    # Four bits a value, two bytes a group, four a row.
    expected = weight.numel() // 2 + 2 * weight.numel() // GROUP_SIZE + 4 * 256
    assert size_bytes(round_to_int4(weight, torch.ones(512))) == expected


def test_grids_are_finest_where_columns_are_strong():
    weight = _weight()
    energy = torch.ones(128)
    energy[::4] = 100.0

    def loss(matrix: Int4Matrix) -> torch.Tensor:
        return ((dequantize(matrix) - weight).square() * energy).sum()

    assert loss(round_to_int4(weight, energy)) < loss(round_to_int4(weight, torch.ones(128)))
