"""Quantized models as directories: safetensors that load as they are, beside the model's own files.

Fused matrices under our own names, so nothing is cut, joined or rounded again at load.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from worker.engine.lean.config import LeanConfig, NotLean
from worker.engine.lean.tensors import TensorFiles
from worker.engine.lean.weights import (
    MATRIX_FIELDS,
    VECTOR_FIELDS,
    LayerWeights,
    LeanWeights,
)
from worker.models.errors import ModelUnavailable
from worker.quant.matrices import FloatMatrix, Int4Matrix, Int8Matrix, Matrix

QUANT_METHOD = "tokenmill"
FORMAT_VERSION = 1


def write_quantized(
    source_dir: Path, out_dir: Path, weights: LeanWeights, description: Mapping[str, Any]
) -> None:
    """Writes the weights and copies of the source's other files.

    Args:
        source_dir: the model that was quantized.
        out_dir: an existing directory.
        weights: quantized.
        description: joins config.json, where loaders see that these are no ordinary weights.

    Raises:
        ModelUnavailable: the weights cannot be written.
    """
    for path in source_dir.iterdir():
        if path.suffix in (".json", ".jinja", ".model", ".txt") and "index" not in path.name:
            shutil.copy(path, out_dir / path.name)
    config = json.loads((source_dir / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {
        "quant_method": QUANT_METHOD,
        "version": FORMAT_VERSION,
        "precise": _precise_names(weights),
        **description,
    }
    (out_dir / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in _flatten(weights).items()}
    try:
        save_file(tensors, out_dir / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as exc:
        # The library hides the operating system's error in its own.
        raise ModelUnavailable(f"the weights cannot be written: {exc}") from exc


def read_quantized(model_dir: Path, config: LeanConfig) -> tuple[LeanWeights, str]:
    """Reads what `write_quantized` wrote.

    Returns:
        The weights, and the precision's name.

    Raises:
        NotLean: quantized by somebody else, or by another version.
    """
    raw = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    said = raw.get("quantization_config") or {}
    if said.get("quant_method") != QUANT_METHOD or said.get("version") != FORMAT_VERSION:
        raise NotLean(f"weights quantized by {said.get('quant_method')}")
    files = TensorFiles(model_dir)
    precise = frozenset(said["precise"])
    layers = [_read_layer(files, f"layers.{i}", precise) for i in range(config.num_layers)]
    embedding = _find_matrix(files, "embedding", precise)
    if embedding is None:
        raise NotLean("no embedding")
    weights = LeanWeights(
        embedding=embedding,
        layers=layers,
        norm=files.get("norm"),
        output=_find_matrix(files, "output", precise),
    )
    files.check_all_read()
    return weights, str(said["bits"])


def _flatten(weights: LeanWeights) -> dict[str, torch.Tensor]:
    tensors = {"norm": weights.norm, **_parts("embedding", weights.embedding)}
    if weights.output is not None:
        tensors |= _parts("output", weights.output)
    for layer_idx, layer in enumerate(weights.layers):
        prefix = f"layers.{layer_idx}"
        for name in MATRIX_FIELDS:
            tensors |= _parts(f"{prefix}.{name}", getattr(layer, name))
        for name in VECTOR_FIELDS:
            vector = getattr(layer, name)
            if vector is not None:
                tensors[f"{prefix}.{name}"] = vector
    return tensors


def _precise_names(weights: LeanWeights) -> list[str]:
    named: dict[str, Matrix | None] = {"embedding": weights.embedding, "output": weights.output}
    for layer_idx, layer in enumerate(weights.layers):
        named |= {f"layers.{layer_idx}.{name}": getattr(layer, name) for name in MATRIX_FIELDS}
    return [name for name, matrix in named.items() if getattr(matrix, "is_precise", False)]


def _parts(name: str, matrix: Matrix) -> dict[str, torch.Tensor]:
    match matrix:
        case FloatMatrix(weight):
            return {f"{name}.weight": weight}
        case Int8Matrix(codes, scales, _):
            return {f"{name}.codes": codes, f"{name}.scales": scales}
        case Int4Matrix(packed, steps, bases, scales, _):
            return {
                f"{name}.packed": packed,
                f"{name}.steps": steps,
                f"{name}.bases": bases,
                f"{name}.scales": scales,
            }


def _read_layer(files: TensorFiles, prefix: str, precise: frozenset[str]) -> LayerWeights:
    parts: dict[str, Any] = {name: files.find(f"{prefix}.{name}") for name in VECTOR_FIELDS}
    for name in MATRIX_FIELDS:
        matrix = _find_matrix(files, f"{prefix}.{name}", precise)
        if matrix is None:
            raise NotLean(f"matrix {prefix}.{name} is missing")
        parts[name] = matrix
    return LayerWeights(**parts)


def _find_matrix(files: TensorFiles, name: str, precise: frozenset[str]) -> Matrix | None:
    weight = files.find(f"{name}.weight")
    if weight is not None:
        return FloatMatrix(weight)
    codes = files.find(f"{name}.codes")
    if codes is not None:
        return Int8Matrix(codes, files.get(f"{name}.scales"), name in precise)
    packed = files.find(f"{name}.packed")
    if packed is None:
        return None
    return Int4Matrix(
        packed,
        files.get(f"{name}.steps"),
        files.get(f"{name}.bases"),
        files.get(f"{name}.scales"),
        name in precise,
    )
