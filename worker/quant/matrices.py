"""Weight matrices of linear layers, in the precisions that they are kept in.

All are (num_rows, num_columns): a row makes one output value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

GROUP_SIZE = 32
"""Columns of an int4 row that share a step and a base."""


@dataclass(frozen=True, slots=True)
class FloatMatrix:
    """weight: (num_rows, num_columns), a float type."""

    weight: torch.Tensor


@dataclass(frozen=True, slots=True)
class Int8Matrix:
    """Symmetric int8, one scale per row: value = codes * scale.

    codes: (num_rows, num_columns) int8, -127..127. scales: (num_rows,) float32.
    is_precise: what it multiplies is rounded to two int8 codes instead of one, since outliers in
        it would otherwise cost accuracy.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    is_precise: bool = False


@dataclass(frozen=True, slots=True)
class Int4Matrix:
    """Four bits per value on top of int8: value = clamp(base + step * code) * scale.

    The clamped sum is itself an int8 code (-127..127), so that one integer kernel computes both
    formats and sums stay exact.

    packed: (num_rows, num_columns / 2) uint8; within a group of 32 columns byte i holds column i
        in its low half and column i + 16 in its high half: a vector unpacks without shuffle.
    steps: (num_rows, num_columns / 32) uint8, 1..17. bases: the same shape, int8.
    scales: (num_rows,) float32. is_precise: as in Int8Matrix.
    """

    packed: torch.Tensor
    steps: torch.Tensor
    bases: torch.Tensor
    scales: torch.Tensor
    is_precise: bool = False


Matrix = FloatMatrix | Int8Matrix | Int4Matrix


def round_to_int8(weight: torch.Tensor) -> Int8Matrix:
    """Rounds each row to 127 steps of its largest magnitude."""
    rows = weight.to(torch.float32)
    scales = rows.abs().amax(dim=1) / 127
    # A row of zeros has no scale of its own; any will do.
    scales = torch.where(scales > 0, scales, torch.ones_like(scales))
    codes = (rows / scales[:, None]).round_().clamp_(-127, 127).to(torch.int8)
    return Int8Matrix(codes, scales)


def int8_codes(matrix: Int4Matrix) -> torch.Tensor:
    """The int8 codes that an int4 matrix stands for: (num_rows, num_columns) int8."""
    num_rows, num_groups = matrix.steps.shape
    halves = matrix.packed.view(num_rows, num_groups, GROUP_SIZE // 2)
    codes = torch.cat((halves & 15, halves >> 4), dim=2).to(torch.int16)
    steps, bases = matrix.steps.to(torch.int16), matrix.bases.to(torch.int16)
    codes = codes.mul_(steps[:, :, None]).add_(bases[:, :, None]).clamp_(-127, 127)
    return codes.to(torch.int8).view(num_rows, num_groups * GROUP_SIZE)


def pack_codes(codes: torch.Tensor) -> torch.Tensor:
    """Four-bit codes (num_rows, num_columns), 0..15, as an Int4Matrix holds them."""
    groups = codes.to(torch.uint8).view(codes.shape[0], -1, 2, GROUP_SIZE // 2)
    return (groups[:, :, 0] | (groups[:, :, 1] << 4)).reshape(codes.shape[0], -1)


def dequantize(matrix: Matrix) -> torch.Tensor:
    """The values as float32."""
    match matrix:
        case FloatMatrix():
            return matrix.weight.to(torch.float32)
        case Int8Matrix():
            return matrix.codes.to(torch.float32) * matrix.scales[:, None]
        case Int4Matrix():
            return int8_codes(matrix).to(torch.float32) * matrix.scales[:, None]


def size_bytes(matrix: Matrix) -> int:
    """Memory of the matrix with all that is needed to read it."""
    match matrix:
        case FloatMatrix():
            parts = [matrix.weight]
        case Int8Matrix():
            parts = [matrix.codes, matrix.scales]
        case Int4Matrix():
            parts = [matrix.packed, matrix.steps, matrix.bases, matrix.scales]
    return sum(part.numel() * part.element_size() for part in parts)
