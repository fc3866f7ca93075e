"""The weights of a Llama-like model: fused, named once for all families."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from worker.engine.lean.config import LeanConfig, NotLean
from worker.engine.lean.tensors import TensorSource, open_tensors
from worker.progress import progress_bar
from worker.quant.matrices import FloatMatrix, Matrix


@dataclass(slots=True)
class LayerWeights:
    """One layer. q, k and v lie one below the other in `qkv`, gate and up in `gate_up`.

    Norms and biases are float tensors; those that a family lacks are None.
    """

    attention_norm: torch.Tensor
    qkv: Matrix
    qkv_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    attention_out: Matrix
    attention_out_bias: torch.Tensor | None
    after_attention_norm: torch.Tensor | None
    mlp_norm: torch.Tensor
    gate_up: Matrix
    gate_up_bias: torch.Tensor | None
    down: Matrix
    down_bias: torch.Tensor | None
    after_mlp_norm: torch.Tensor | None


@dataclass(slots=True)
class LeanWeights:
    """A model. `output` is None where it is the embedding."""

    embedding: Matrix
    layers: list[LayerWeights]
    norm: torch.Tensor
    output: Matrix | None


MATRIX_FIELDS = ("qkv", "attention_out", "gate_up", "down")
VECTOR_FIELDS = tuple(f.name for f in fields(LayerWeights) if f.name not in MATRIX_FIELDS)


def read_weights(model_dir: Path, config: LeanConfig, dtype: torch.dtype) -> LeanWeights:
    """Reads the weights of a model directory into a float type.

    Raises:
        NotLean: tensors are missing, or there are some that the lean path has no use for.
    """
    files = open_tensors(model_dir, config)
    embedding = FloatMatrix(files.get("model.embed_tokens.weight").to(dtype))
    layers: list[LayerWeights] = []
    with progress_bar("reading weights", config.num_layers) as advance:
        for layer_idx in range(config.num_layers):
            layers.append(_read_layer(files, config, layer_idx, dtype))
            advance()
    norm = files.get("model.norm.weight").to(torch.float32) + config.norm_offset
    written = files.find("lm_head.weight")
    output = None
    if not config.is_tied:
        output = FloatMatrix(files.get("lm_head.weight").to(dtype))
    elif written is not None and not torch.equal(written.to(dtype), embedding.weight):
        raise NotLean("a tied output layer that differs from the embedding")
    files.check_all_read()
    return LeanWeights(embedding, layers, norm, output)


def num_weights(config: LeanConfig, weights: LeanWeights) -> int:
    """Values of all matrices, one that serves twice counted once."""
    return _num_values(config, num_tables=1 if weights.output is None else 2)


def num_values(config: LeanConfig) -> int:
    """The same, by what the configuration says."""
    return _num_values(config, num_tables=1 if config.is_tied else 2)


def _num_values(config: LeanConfig, num_tables: int) -> int:
    hidden, q_size, kv_size = config.hidden_size, config.q_size, config.kv_size
    per_layer = hidden * (2 * q_size + 2 * kv_size + 3 * config.ffn_size)
    return config.num_layers * per_layer + num_tables * config.vocab_size * hidden


def quantization_of(model_dir: Path) -> dict[str, object] | None:
    """What config.json says of how the weights were quantized; None if they were not."""
    raw = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    return raw.get("quantization_config")


def _read_layer(
    files: TensorSource, config: LeanConfig, layer_idx: int, dtype: torch.dtype
) -> LayerWeights:
    prefix = f"model.layers.{layer_idx}"

    def norm(name: str) -> torch.Tensor:
        return files.get(f"{prefix}.{name}.weight").to(torch.float32) + config.norm_offset

    def optional_norm(name: str) -> torch.Tensor | None:
        tensor = files.find(f"{prefix}.{name}.weight")
        return None if tensor is None else tensor.to(torch.float32) + config.norm_offset

    def matrix(*names: str) -> Matrix:
        parts = [files.get(f"{prefix}.{name}.weight").to(dtype) for name in names]
        return FloatMatrix(parts[0] if len(parts) == 1 else torch.cat(parts))

    def bias(*names: str) -> torch.Tensor | None:
        return _fuse_biases([files.find(f"{prefix}.{name}.bias") for name in names], prefix)

    qkv = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    gate_up = ("mlp.gate_proj", "mlp.up_proj")
    if config.is_sandwiched:
        after_attention = norm("post_attention_layernorm")
        mlp_norm = norm("pre_feedforward_layernorm")
        after_mlp = norm("post_feedforward_layernorm")
    else:
        after_attention, after_mlp = None, None
        mlp_norm = norm("post_attention_layernorm")
    return LayerWeights(
        attention_norm=norm("input_layernorm"),
        qkv=matrix(*qkv),
        qkv_bias=bias(*qkv),
        q_norm=optional_norm("self_attn.q_norm"),
        k_norm=optional_norm("self_attn.k_norm"),
        attention_out=matrix("self_attn.o_proj"),
        attention_out_bias=bias("self_attn.o_proj"),
        after_attention_norm=after_attention,
        mlp_norm=mlp_norm,
        gate_up=matrix(*gate_up),
        gate_up_bias=bias(*gate_up),
        down=matrix("mlp.down_proj"),
        down_bias=bias("mlp.down_proj"),
        after_mlp_norm=after_mlp,
    )


def _fuse_biases(parts: list[torch.Tensor | None], where: str) -> torch.Tensor | None:
    present = [part.to(torch.float32) for part in parts if part is not None]
    if not present:
        return None
    if len(present) != len(parts):
        raise NotLean(f"{where} has biases on some projections only")
    return torch.cat(present)
