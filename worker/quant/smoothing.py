"""Moves outliers from what matrices multiply into the matrices, where they cost less.

What a matrix multiplies is divided, column by column, where it comes from: by a norm's weight, or
by the rows of `up`, which an MLP's activations are proportional to. The matrix's columns take the
divisors, so that the product stays the same. Source: SmoothQuant, Xiao et al. 2022; but here the
share of each side is searched for, by the error that rounding makes of calibration rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch.nn import functional

from worker.engine.lean.weights import LayerWeights
from worker.quant.matrices import FloatMatrix, dequantize, round_to_int8
from worker.quant.rows import round_rows

_LIMIT = 20.0
"""A column is never stretched or shrunk by more: calibration may have missed what it carries."""

_SHARES = (0.25, 0.5, 0.75)
"""Of a column's spread, how much goes from the rows into the matrix."""

NORM_OF = {"qkv": "attention_norm", "gate_up": "mlp_norm"}
"""Matrices that follow a norm directly."""


def smooth(
    layer: LayerWeights, rows: Mapping[str, torch.Tensor]
) -> tuple[LayerWeights, dict[str, torch.Tensor]]:
    """An equivalent layer.

    Args:
        layer: in float.
        rows: per matrix, some of what it multiplied.

    Returns:
        The layer, and per smoothed matrix the divisors of its inputs' columns.
    """
    divisors: dict[str, torch.Tensor] = {}
    parts: dict[str, object] = {}
    for name in (*NORM_OF, "down"):
        weight = dequantize(getattr(layer, name))
        divisors[name] = _best_divisors(rows[name], weight)
        parts[name] = FloatMatrix(weight * divisors[name])
    for name, norm in NORM_OF.items():
        parts[norm] = getattr(layer, norm) / divisors[name]
    # The gate goes through a curve; `up` is the factor beside it.
    shrinks = torch.cat((torch.ones_like(divisors["down"]), divisors["down"]))
    gate_up = dequantize(layer.gate_up) * divisors["gate_up"]
    parts["gate_up"] = FloatMatrix(gate_up / shrinks[:, None])
    if layer.gate_up_bias is not None:
        parts["gate_up_bias"] = layer.gate_up_bias / shrinks
    return dataclasses.replace(layer, **parts), divisors


def rounding_error(rows: torch.Tensor, rounded: torch.Tensor, expected: torch.Tensor) -> float:
    """Median over rows of how far products are off, relative to them, with the rows in int8 too.

    Args:
        rows: (num_rows, num_columns), in float.
        rounded: matrix to multiply by; (n, num_columns).
        expected: exact products; (num_rows, n).
    """
    codes, scales = round_rows(rows, is_precise=False)
    error = (functional.linear(codes * scales, rounded) - expected).norm(dim=1)
    return (error / expected.norm(dim=1).clamp_min(1e-30)).median().item()


def _best_divisors(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    expected = functional.linear(rows, weight)

    def error(divisors: torch.Tensor) -> float:
        rounded = dequantize(round_to_int8(weight * divisors))
        return rounding_error(rows / divisors, rounded, expected)

    return min(_candidates(rows, weight), key=error)


def _candidates(rows: torch.Tensor, weight: torch.Tensor) -> Iterator[torch.Tensor]:
    yield torch.ones(weight.shape[1])
    # Peaks set the scales that columns are rounded by; but a rare peak is worth little.
    for sizes in (_peaks, _mean_sizes):
        row_sizes, weight_sizes = sizes(rows).clamp_min(1e-6), sizes(weight).clamp_min(1e-6)
        for share in _SHARES:
            ratios = row_sizes**share / weight_sizes ** (1 - share)
            yield (ratios / ratios.log().mean().exp()).clamp(1 / _LIMIT, _LIMIT)


def _peaks(rows: torch.Tensor) -> torch.Tensor:
    return rows.abs().amax(dim=0)


def _mean_sizes(rows: torch.Tensor) -> torch.Tensor:
    return rows.square().mean(dim=0).sqrt()
