"""The layers of a Llama-like model on packed rows: few calls each, none of them transformers' code.

Between matrices values are float32: there are few of them, and rounding them costs accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from worker.engine.lean.config import LeanConfig
from worker.engine.lean.linear import FloatTable, Int8Table, Linear
from worker.engine.lean.rope_table import RopeTables, rotate
from worker.engine.lean.weights import LayerWeights, LeanWeights
from worker.engine.paged_attention import Scoring
from worker.quant.matrices import FloatMatrix, Int8Matrix, Matrix

MakeLinear = Callable[[Matrix, torch.Tensor | None], Linear]
"""Makes a matrix and its bias ready to multiply."""

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor, Scoring], torch.Tensor]
"""Stores K and V of a layer and attends.

Layer index; query (num_rows, num_heads, head_dim); key, value (num_rows, num_kv_heads, head_dim);
scoring. Gives (num_rows, num_heads, head_dim). All float32: it rounds to what its blocks hold.
"""


@dataclass(frozen=True, slots=True)
class _Layer:
    # Norms by themselves: the matrices as they were read would double the memory.
    attention_norm: torch.Tensor
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    after_attention_norm: torch.Tensor | None
    mlp_norm: torch.Tensor
    after_mlp_norm: torch.Tensor | None
    qkv: Linear
    attention_out: Linear
    gate_up: Linear
    down: Linear
    scoring: Scoring


class LeanStack:
    """Embedding, layers and output of Llama, Mistral, Qwen2, Qwen3 and Gemma 3.

    Takes over the memory of the weights, layer by layer, so that no more than one is there twice.
    """

    def __init__(
        self,
        config: LeanConfig,
        weights: LeanWeights,
        make_linear: MakeLinear,
        ropes: RopeTables,
    ) -> None:
        self._config = config
        self._ropes = ropes
        self._norm = weights.norm
        self._table, self._output = _ends(weights, make_linear)
        self._layers: list[_Layer] = []
        while weights.layers:
            layer = weights.layers.pop(0)
            self._layers.append(_make_ready(config, len(self._layers), layer, make_linear))

    @property
    def weight_bytes(self) -> int:
        """Memory of all matrices, embedding and output included."""
        tables = {id(part): part.size_bytes for part in (self._table, self._output)}
        matrices = (
            matrix.size_bytes
            for layer in self._layers
            for matrix in (layer.qkv, layer.attention_out, layer.gate_up, layer.down)
        )
        return sum(tables.values()) + sum(matrices)

    def hidden(
        self, token_ids: torch.Tensor, positions: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        """All layers: (num_rows,) ids and positions -> (num_rows, hidden_size) float32."""
        config = self._config
        hidden = self._table.look_up(token_ids)
        if config.embedding_scale != 1.0:
            hidden *= config.embedding_scale
        turns = self._ropes.at(positions)
        for layer_idx, layer in enumerate(self._layers):
            normed = self._normed(hidden, layer.attention_norm)
            cos, sin = turns[config.ropes[layer_idx]]
            attended = self._attended(layer_idx, layer, normed, (cos, sin), attend)
            hidden += self._normed(attended, layer.after_attention_norm)
            normed = self._normed(hidden, layer.mlp_norm)
            gate, up = layer.gate_up(normed).chunk(2, dim=1)
            mixed = layer.down(self._activate(gate).mul_(up))
            hidden += self._normed(mixed, layer.after_mlp_norm)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of the vocabulary: (num_rows, hidden_size) -> (num_rows, vocab_size) float32."""
        logits = self._output(self._normed(hidden, self._norm))
        softcap = self._config.logit_softcap
        return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)

    def _attended(
        self,
        layer_idx: int,
        layer: _Layer,
        normed: torch.Tensor,
        turns: tuple[torch.Tensor, torch.Tensor],
        attend: Attend,
    ) -> torch.Tensor:
        config = self._config
        heads = layer.qkv(normed).view(normed.shape[0], -1, config.head_dim)
        num_turned = config.num_heads + config.num_kv_heads
        query, key, value = heads.split(
            (config.num_heads, config.num_kv_heads, config.num_kv_heads), dim=1
        )
        if layer.q_norm is not None:
            query = self._normed(query, layer.q_norm)
        if layer.k_norm is not None:
            key = self._normed(key, layer.k_norm)
        is_split = layer.q_norm is not None or layer.k_norm is not None
        turning = torch.cat((query, key), dim=1) if is_split else heads[:, :num_turned]
        turned = rotate(turning, *turns)
        query, key = turned.split((config.num_heads, config.num_kv_heads), dim=1)
        out = attend(layer_idx, query, key, value, layer.scoring)
        return layer.attention_out(out.flatten(1).to(torch.float32))

    def _normed(self, rows: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        if weight is None:
            return rows
        return functional.rms_norm(rows, weight.shape, weight, self._config.norm_eps)

    def _activate(self, gate: torch.Tensor) -> torch.Tensor:
        if self._config.activation == "silu":
            return functional.silu(gate)
        return functional.gelu(gate, approximate="tanh")


def _ends(weights: LeanWeights, make_linear: MakeLinear) -> tuple[FloatTable | Int8Table, Linear]:
    """What looks tokens up and what scores them."""
    match weights.embedding:
        case FloatMatrix(weight):
            table = FloatTable(weight)
            output = weights.output or weights.embedding
            return table, make_linear(output, None)
        case Int8Matrix():
            table = Int8Table(weights.embedding)
            return table, table if weights.output is None else make_linear(weights.output, None)
        case _:
            raise ValueError("an embedding is float or int8")


def _make_ready(
    config: LeanConfig, layer_idx: int, layer: LayerWeights, make_linear: MakeLinear
) -> _Layer:
    scoring = Scoring(config.attention_scale, config.windows[layer_idx], config.score_softcap)
    return _Layer(
        attention_norm=layer.attention_norm,
        q_norm=layer.q_norm,
        k_norm=layer.k_norm,
        after_attention_norm=layer.after_attention_norm,
        mlp_norm=layer.mlp_norm,
        after_mlp_norm=layer.after_mlp_norm,
        qkv=make_linear(layer.qkv, layer.qkv_bias),
        attention_out=make_linear(layer.attention_out, layer.attention_out_bias),
        gate_up=make_linear(layer.gate_up, layer.gate_up_bias),
        down=make_linear(layer.down, layer.down_bias),
        scoring=scoring,
    )
