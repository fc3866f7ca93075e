"""A Llama-like layer on whole sequences, in float32, that lets its caller choose each matrix.

Made for calibration: no cache, no packing, and between any two matrices one can look at the inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from worker.engine.lean.config import LeanConfig
from worker.engine.lean.weights import LayerWeights

Multiply = Callable[[str, torch.Tensor], torch.Tensor]
"""Matrix's field name in LayerWeights, inputs (..., num_columns) -> outputs (..., num_rows)."""


def run_layer(
    config: LeanConfig,
    layer_idx: int,
    layer: LayerWeights,
    hidden: torch.Tensor,
    multiply: Multiply,
) -> torch.Tensor:
    """The layer's output for hidden: (num_sequences, length, hidden_size) float32."""
    eps = config.norm_eps
    rows = rms_norm(hidden, layer.attention_norm, eps)
    qkv = _add(multiply("qkv", rows), layer.qkv_bias)
    attended = _attend(config, layer_idx, layer, qkv)
    out = _add(multiply("attention_out", attended), layer.attention_out_bias)
    if layer.after_attention_norm is not None:
        out = rms_norm(out, layer.after_attention_norm, eps)
    hidden = hidden + out
    rows = rms_norm(hidden, layer.mlp_norm, eps)
    gate, up = _add(multiply("gate_up", rows), layer.gate_up_bias).chunk(2, dim=-1)
    gate = (
        functional.silu(gate)
        if config.activation == "silu"
        else functional.gelu(gate, approximate="tanh")
    )
    out = _add(multiply("down", gate * up), layer.down_bias)
    if layer.after_mlp_norm is not None:
        out = rms_norm(out, layer.after_mlp_norm, eps)
    return hidden + out


def rms_norm(rows: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Rows scaled to a mean square of 1, then by the weight."""
    return rows * torch.rsqrt(rows.square().mean(dim=-1, keepdim=True) + eps) * weight


def _attend(
    config: LeanConfig, layer_idx: int, layer: LayerWeights, qkv: torch.Tensor
) -> torch.Tensor:
    num_sequences, length, _ = qkv.shape
    query, key, value = (
        part.view(num_sequences, length, -1, config.head_dim)
        for part in qkv.split((config.q_size, config.kv_size, config.kv_size), dim=-1)
    )
    if layer.q_norm is not None:
        query = rms_norm(query, layer.q_norm, config.norm_eps)
    if layer.k_norm is not None:
        key = rms_norm(key, layer.k_norm, config.norm_eps)
    positions = torch.arange(length, dtype=torch.float32)
    angles = torch.outer(positions, torch.tensor(config.ropes[layer_idx].frequencies))
    query, key = _rotate(query, angles), _rotate(key, angles)
    distance = positions[:, None] - positions[None, :]
    is_seen = distance >= 0
    window = config.windows[layer_idx]
    if window is not None:
        is_seen &= distance < window
    out = functional.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        attn_mask=is_seen,
        scale=config.attention_scale,
        enable_gqa=True,
    )
    return out.transpose(1, 2).flatten(2)


def _rotate(heads: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def _add(rows: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return rows if bias is None else rows + bias
