"""Linear layers whose rows do not feel each other.

oneDNN's prepacked kernel is twice as fast as F.linear for few rows, and gives a row the same bits
whatever the number of rows, from a small floor on. Measured floors: 1 for up to about 1000 inputs,
2 beyond (a single row is then summed in another order), in float32 and in bfloat16. The floor is
found by trying, once per shape; fewer rows are padded.
"""

from __future__ import annotations

import structlog
import torch
from torch import nn
from torch.nn import functional

log = structlog.get_logger(__name__)

_PROBED_ROWS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 31, 32, 33, 48, 64, 96, 128, 256)
_MAX_FLOOR = 16
_MAX_PROBE_VALUES = 1 << 26
"""Largest output of a probe: wide layers, like the output layer, are tried with fewer rows."""


class PackedLinear(nn.Module):
    """A drop-in for nn.Linear on a CPU; holds a reordered copy of the weight."""

    def __init__(self, linear: nn.Linear, min_rows: int) -> None:
        super().__init__()
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.min_rows = min_rows
        self._packed = _pack(linear.weight)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows: (..., in_features) -> (..., out_features)."""
        flat = rows.reshape(-1, self.in_features)
        num_rows = flat.shape[0]
        if num_rows < self.min_rows:
            flat = functional.pad(flat, (0, 0, 0, self.min_rows - num_rows))
        out = _multiply(flat, self._packed, self._bias)[:num_rows]
        return out.view(*rows.shape[:-1], self.out_features)


def is_packing_available(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this torch has the prepacked kernel for this precision and device."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return False
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return hasattr(torch.ops.mkldnn, "_reorder_linear_weight") and hasattr(
        torch.ops.mkldnn, "_linear_pointwise"
    )


def pack_linears(model: nn.Module) -> int:
    """Replaces every plain nn.Linear of the model; returns how many.

    A weight that is shared, as that of a tied output layer is, stays where it is as the embedding.
    """
    floors: dict[tuple[int, int, torch.dtype], int] = {}
    num_packed = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            # Subclasses may mean something else by their weight.
            if type(child) is not nn.Linear:
                continue
            shape = (child.out_features, child.in_features, child.weight.dtype)
            if shape not in floors:
                floors[shape] = stable_floor(child)
            setattr(parent, name, PackedLinear(child, floors[shape]))
            num_packed += 1
    return num_packed


def stable_floor(linear: nn.Linear) -> int:
    """The least number of rows from which on a row's bits do not depend on how many there are."""
    max_rows = max(_MAX_FLOOR, _MAX_PROBE_VALUES // linear.out_features)
    row_counts = [num_rows for num_rows in _PROBED_ROWS if num_rows <= max_rows]
    weight, rows = _cancelling(linear, row_counts[-1])
    packed = _pack(weight)
    expected = _multiply(rows, packed, None)
    unstable = [
        n for n in row_counts if not torch.equal(_multiply(rows[:n], packed, None), expected[:n])
    ]
    floor = 1 if not unstable else row_counts[row_counts.index(unstable[-1]) + 1]
    if floor > _MAX_FLOOR:
        log.warning(
            "linear.row_unstable",
            out_features=linear.out_features,
            in_features=linear.in_features,
            num_rows=unstable[-1],
        )
        return 1
    return floor


def _cancelling(linear: nn.Linear, num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight and rows whose products are all zero but for rounding.

    What is left is the mark of the order of summation. In ordinary values, rounding to bfloat16
    hides it but for one value in thousands.
    """
    generator = torch.Generator().manual_seed(0)
    half = linear.in_features // 2
    weight = torch.zeros(linear.out_features, linear.in_features)
    rows = torch.zeros(num_rows, linear.in_features)
    weight[:, :half] = torch.randn(linear.out_features, half, generator=generator)
    rows[:, :half] = torch.randn(num_rows, half, generator=generator)
    order = torch.randperm(half, generator=generator)
    weight[:, half : 2 * half] = weight[:, order]
    rows[:, half : 2 * half] = -rows[:, order]
    return weight.to(linear.weight.dtype), rows.to(linear.weight.dtype)


def _pack(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)


def _multiply(rows: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")
