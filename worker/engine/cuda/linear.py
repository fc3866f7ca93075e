"""Float matrices on a GPU whose rows do not feel each other.

cuBLAS chooses its kernel, and with it the order of sums, by the number of rows. So rows are
multiplied in groups of a fixed number, filled up with zeros: one number for output tokens, another
for prompt tokens. A token is always computed as the same kind, whatever else is in its step.
"""

from __future__ import annotations

import torch
from torch.nn import functional

DECODE_GROUP = 64
PREFILL_GROUP = 256


class RowKinds:
    """How many of the rows at hand are output tokens; they come first. Set before each use."""

    def __init__(self) -> None:
        self.num_decode_rows = 0


class GroupedLinear:
    """A matrix (matrix rows, num_columns) that multiplies rows in fixed groups."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, kinds: RowKinds) -> None:
        self.size_bytes = weight.numel() * weight.element_size()
        self._weight = weight
        self._bias = bias
        self._kinds = kinds

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(num_rows, num_columns) float32 -> (num_rows, matrix rows) float32."""
        num_decodes = min(self._kinds.num_decode_rows, len(rows))
        rows = rows.to(self._weight.dtype)
        parts = [
            *self._groups(rows[:num_decodes], DECODE_GROUP),
            *self._groups(rows[num_decodes:], PREFILL_GROUP),
        ]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        out = out.to(torch.float32)
        return out if self._bias is None else out.add_(self._bias)

    def _groups(self, rows: torch.Tensor, size: int) -> list[torch.Tensor]:
        out: list[torch.Tensor] = []
        for first in range(0, len(rows), size):
            group = rows[first : first + size]
            missing = size - len(group)
            filled = functional.pad(group, (0, 0, 0, missing)) if missing else group
            product = functional.linear(filled, self._weight)
            out.append(product[: len(group)] if missing else product)
        return out
