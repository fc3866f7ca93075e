"""Matrices made ready to multiply: packed once, the same bits for a row in any company."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from worker.engine.packed_linear import PackedLinear, is_packing_available, stable_floor
from worker.quant.matrices import FloatMatrix, Int4Matrix, Int8Matrix, Matrix, int8_codes
from worker.quant.rows import join_halves, round_rows


class Linear(Protocol):
    """A matrix that multiplies rows."""

    size_bytes: int

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(num_rows, num_columns) float32 -> (num_rows, matrix rows) float32."""
        ...


def ready(matrix: Matrix, bias: torch.Tensor | None, floors: Floors) -> Linear:
    """The fastest way here to multiply by a matrix; takes over its memory."""
    match matrix:
        case FloatMatrix(weight):
            return FloatLinear(weight, bias, floors)
        case Int8Matrix():
            return Int8Linear(matrix, bias)
        case Int4Matrix():
            return Int4Linear(matrix, bias)


class Floors:
    """Least number of rows for stable bits, tried once per shape and precision."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, torch.dtype], int] = {}

    def of(self, linear: nn.Linear) -> int:
        """The floor of a linear's shape."""
        key = (linear.out_features, linear.in_features, linear.weight.dtype)
        if key not in self._known:
            self._known[key] = stable_floor(linear)
        return self._known[key]


class FloatLinear:
    """A float matrix; rows are cast to its precision."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, floors: Floors) -> None:
        self.size_bytes = weight.numel() * weight.element_size()
        self._dtype = weight.dtype
        self._bias = bias
        self._packed: PackedLinear | None = None
        self._weight: torch.Tensor | None = weight
        if is_packing_available(weight.dtype, weight.device):
            # On the meta device a Linear allocates nothing.
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            linear.weight = nn.Parameter(weight, requires_grad=False)
            self._packed = PackedLinear(linear, floors.of(linear))
            self._weight = None

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(num_rows, num_columns) float32 -> (num_rows, matrix rows) float32."""
        rows = rows.to(self._dtype)
        if self._packed is not None:
            out = self._packed(rows).to(torch.float32)
        else:
            assert self._weight is not None
            out = functional.linear(rows, self._weight).to(torch.float32)
        return out if self._bias is None else out.add_(self._bias)


class Int8Linear:
    """int8 weights times rows rounded to int8; sums are exact, so no order of them matters.

    A row is rounded by its own largest magnitude: no row feels another.
    """

    def __init__(self, matrix: Int8Matrix, bias: torch.Tensor | None) -> None:
        self.size_bytes = matrix.codes.numel() + 4 * matrix.scales.numel()
        self._packed = torch.ops.onednn.qlinear_prepack(matrix.codes, None)
        self._scales = matrix.scales
        self._zeros = torch.zeros_like(matrix.scales, dtype=torch.int64)
        self._bias = bias
        self._is_precise = matrix.is_precise

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(num_rows, num_columns) float32 -> (num_rows, matrix rows) float32."""
        codes, scales = round_rows(rows, self._is_precise)
        # Unsigned with a zero point of 128: with signed rows oneDNN falls back to a reference
        # kernel that is a thousand times slower.
        out = torch.ops.onednn.qlinear_pointwise(
            codes.add_(128).to(torch.uint8),
            1.0,
            128,
            self._packed,
            self._scales,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        out = join_halves(out, self._is_precise).mul_(scales)
        return out if self._bias is None else out.add_(self._bias)


class Int8Table:
    """int8 rows that are looked up and multiplied by: an embedding that is the output layer too."""

    def __init__(self, matrix: Int8Matrix) -> None:
        self.size_bytes = matrix.codes.numel() + 4 * matrix.scales.numel()
        self._matrix = matrix

    def look_up(self, row_ids: torch.Tensor) -> torch.Tensor:
        """(num_ids,) int64 -> (num_ids, num_columns) float32."""
        rows = self._matrix.codes.index_select(0, row_ids).to(torch.float32)
        return rows.mul_(self._matrix.scales[row_ids][:, None])

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(num_rows, num_columns) float32 -> (num_rows, table rows) float32."""
        return _multiply_codes(rows, self._matrix.codes, self._matrix)


class FloatTable:
    """Float rows to look up."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.size_bytes = weight.numel() * weight.element_size()
        self._weight = weight

    def look_up(self, row_ids: torch.Tensor) -> torch.Tensor:
        """(num_ids,) int64 -> (num_ids, num_columns) float32."""
        return self._weight.index_select(0, row_ids).to(torch.float32)


class Int4Linear:
    """int4 weights times rows rounded to int8, by unpacking to int8 what is needed now."""

    def __init__(self, matrix: Int4Matrix, bias: torch.Tensor | None) -> None:
        parts = (matrix.packed, matrix.steps, matrix.bases, matrix.scales)
        self.size_bytes = sum(part.numel() * part.element_size() for part in parts)
        self._matrix = matrix
        self._bias = bias

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(num_rows, num_columns) float32 -> (num_rows, matrix rows) float32."""
        out = _multiply_codes(rows, int8_codes(self._matrix), self._matrix)
        return out if self._bias is None else out.add_(self._bias)


def _multiply_codes(
    rows: torch.Tensor, codes: torch.Tensor, matrix: Int8Matrix | Int4Matrix
) -> torch.Tensor:
    row_codes, scales = round_rows(rows, matrix.is_precise)
    sums = torch.ops.aten._int_mm(row_codes.to(torch.int8), codes.t()).to(torch.float32)
    return join_halves(sums, matrix.is_precise).mul_(matrix.scales).mul_(scales)
