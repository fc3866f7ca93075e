"""Moves outliers from what matrices multiply into the matrices, where they cost less.

A norm's weight is divided, column by column, by what the matrix after it is multiplied with: the
product stays the same. Source: SmoothQuant, Xiao et al. 2022, with equal shares for both sides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from worker.engine.lean.weights import LayerWeights
from worker.quant.matrices import FloatMatrix, dequantize

_LIMIT = 20.0
"""A column is never stretched or shrunk by more: calibration may have missed what it carries."""

NORM_OF = {"qkv": "attention_norm", "gate_up": "mlp_norm"}
"""Matrices that follow a norm directly."""


def smooth(
    layer: LayerWeights, peaks: Mapping[str, torch.Tensor]
) -> tuple[LayerWeights, dict[str, torch.Tensor]]:
    """An equivalent layer.

    Args:
        layer: in float.
        peaks: per matrix, the largest magnitude of each column of what it multiplied.

    Returns:
        The layer, and per smoothed matrix the divisors of its inputs' columns.
    """
    divisors: dict[str, torch.Tensor] = {}
    parts: dict[str, object] = {}
    for name, norm in NORM_OF.items():
        weight = dequantize(getattr(layer, name))
        divisors[name] = _divisors(peaks[name], weight)
        parts[name] = FloatMatrix(weight * divisors[name])
        parts[norm] = getattr(layer, norm) / divisors[name]
    return dataclasses.replace(layer, **parts), divisors


def _divisors(peaks: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    ratios = (peaks.clamp_min(1e-5) / weight.abs().amax(dim=0).clamp_min(1e-5)).sqrt()
    return (ratios / ratios.log().mean().exp()).clamp(1 / _LIMIT, _LIMIT)
