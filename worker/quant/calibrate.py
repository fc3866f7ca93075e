"""Quantizes a model, layer after layer, looking at what a calibration text makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from worker.engine.lean.config import LeanConfig
from worker.engine.lean.weights import MATRIX_FIELDS, LayerWeights, LeanWeights
from worker.quant.dense_layer import run_layer
from worker.quant.int4_grid import round_to_int4
from worker.quant.matrices import (
    GROUP_SIZE,
    Int4Matrix,
    Int8Matrix,
    Matrix,
    dequantize,
    round_to_int8,
)
from worker.quant.smoothing import rounding_error, smooth

CALIBRATION_LENGTH = 512
"""Tokens of one calibration sequence."""

_PRECISE_ERROR = 0.0245
"""Relative error of an ordinary row's output, from rounding the row to int8, above which two codes
are used. Of the default model's 120 matrices 13 are above it, and cause nearly all of the loss."""

_ALWAYS_INT8 = ("qkv",)
"""What int4 leaves at int8: an eighth of the default model's values, a sixth of the loss."""

_NUM_PROBED_ROWS = 512

OnLayer = Callable[[int], None]


def quantize_weights(
    config: LeanConfig,
    weights: LeanWeights,
    token_ids: Sequence[int],
    kind: str,
    on_layer: OnLayer = lambda _: None,
) -> LeanWeights:
    """Rounds all matrices.

    Args:
        config: of the model.
        weights: in float.
        token_ids: calibration text; at least one sequence of CALIBRATION_LENGTH.
        kind: int8, or int4: then embedding and output are int8 all the same, since they need it
            and are looked up row by row.
        on_layer: told after each layer how many are done.
    """
    num_sequences = len(token_ids) // CALIBRATION_LENGTH
    if not num_sequences:
        raise ValueError(f"calibration text has {len(token_ids)} tokens")
    ids = torch.tensor(token_ids[: num_sequences * CALIBRATION_LENGTH])
    hidden = functional.embedding(ids, dequantize(weights.embedding))
    hidden = hidden.view(num_sequences, CALIBRATION_LENGTH, -1) * config.embedding_scale
    layers: list[LayerWeights] = []
    for layer_idx, layer in enumerate(weights.layers):
        seen = _Inputs(layer)
        hidden = run_layer(config, layer_idx, layer, hidden, seen.multiply)
        layers.append(_round_layer(layer, seen, kind))
        on_layer(layer_idx + 1)
    # Few rows reach the output layer: two codes for each cost little there.
    output = None if weights.output is None else _precise(_to_int8(weights.output))
    return LeanWeights(
        embedding=_precise(_to_int8(weights.embedding)),
        layers=layers,
        norm=weights.norm,
        output=output,
    )


class _Inputs:
    """What a layer's matrices multiply."""

    def __init__(self, layer: LayerWeights) -> None:
        self._layer = layer
        self.rows: dict[str, torch.Tensor] = {}

    def multiply(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        rows = inputs.flatten(0, -2)
        self.rows[name] = rows[:: max(1, rows.shape[0] // _NUM_PROBED_ROWS)].clone()
        return functional.linear(inputs, dequantize(getattr(self._layer, name)))


def _round_layer(layer: LayerWeights, seen: _Inputs, kind: str) -> LayerWeights:
    # Stretched columns share their int4 group with others and spoil its grid: smoothed, the default
    # model loses 9 % in perplexity, as it is 4 %. Its rows get two codes instead.
    smoothed, divisors = smooth(layer, seen.rows) if kind == "int8" else (layer, {})
    rounded: dict[str, Int8Matrix | Int4Matrix] = {}
    for name in MATRIX_FIELDS:
        weight = dequantize(getattr(smoothed, name))
        rows = seen.rows[name]
        if name in divisors:
            rows = rows / divisors[name]
        matrix = _round(weight, rows, "int8" if name in _ALWAYS_INT8 else kind)
        is_precise = kind == "int4" or _error_of_rows(rows, weight) > _PRECISE_ERROR
        rounded[name] = dataclasses.replace(matrix, is_precise=is_precise)
    return dataclasses.replace(smoothed, **rounded)


def _round(weight: torch.Tensor, rows: torch.Tensor, kind: str) -> Int8Matrix | Int4Matrix:
    # Groups must not cross the end of a row.
    if kind == "int8" or weight.shape[1] % GROUP_SIZE:
        return round_to_int8(weight)
    return round_to_int4(weight, rows.square().mean(dim=0))


def _error_of_rows(rows: torch.Tensor, weight: torch.Tensor) -> float:
    return rounding_error(rows, weight, functional.linear(rows, weight))


def _to_int8(matrix: Matrix) -> Int8Matrix:
    return round_to_int8(dequantize(matrix))


def _precise(matrix: Int8Matrix) -> Int8Matrix:
    return dataclasses.replace(matrix, is_precise=True)
