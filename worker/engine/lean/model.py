"""A Llama-like model on packed rows: few calls per layer, none of them transformers' code.

Between matrices values are float32: there are few of them, and rounding them costs accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
import torch
from torch.nn import functional

from worker.engine.kv_pool import KvPool
from worker.engine.lean.config import LeanConfig
from worker.engine.lean.kv import max_model_len_of, pool_for
from worker.engine.lean.linear import FloatTable, Floors, Int8Table, Linear, ready
from worker.engine.lean.load import LoadedWeights
from worker.engine.lean.rope_table import RopeTables, rotate
from worker.engine.lean.weights import LayerWeights, LeanWeights, num_weights
from worker.engine.paged_attention import Scoring, write_and_attend
from worker.engine.settings import EngineSettings
from worker.engine.step_layout import StepLayout
from worker.quant.matrices import FloatMatrix, Int8Matrix

log = structlog.get_logger(__name__)


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


class LeanModel:
    """A StepModel for Llama, Mistral, Qwen2, Qwen3 and Gemma 3."""

    def __init__(self, loaded: LoadedWeights, settings: EngineSettings) -> None:
        self._config = config = loaded.config
        self._precision = loaded.precision
        self._max_model_len = max_model_len_of(loaded, settings)
        self._ropes = RopeTables(config.ropes, self._max_model_len)
        self._norm = loaded.weights.norm
        self._num_weights = num_weights(config, loaded.weights)
        self._disk_bytes = loaded.disk_bytes
        floors = Floors()
        self._table, self._output = _ends(loaded.weights, floors)
        self._layers: list[_Layer] = []
        unpacked = loaded.weights.layers
        # One by one, so that no more than one layer is in memory twice.
        while unpacked:
            layer = unpacked.pop(0)
            self._layers.append(_make_ready(config, len(self._layers), layer, floors))
        self._pool = pool_for(loaded, settings)
        log.info(
            "model.loaded",
            path="lean",
            architecture=config.architecture,
            precision=self._precision,
            dtype=self._pool.layout.dtype,
            num_blocks=self._pool.num_blocks,
            weight_bytes=self.weight_bytes,
        )

    @property
    def pool(self) -> KvPool:
        """Memory of the K/V blocks."""
        return self._pool

    @property
    def numerics(self) -> str:
        """What decides a token's bits beside the weights."""
        return f"lean:{self._precision}:{self._pool.layout.dtype}"

    @property
    def vocab_size(self) -> int:
        """Ids 0 .. vocab_size - 1 are valid."""
        return self._config.vocab_size

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus answer."""
        return self._max_model_len

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

    @property
    def num_weights(self) -> int:
        """Values of all matrices, one that serves twice counted once."""
        return self._num_weights

    @property
    def disk_bytes(self) -> int:
        """Size of the weight files that were loaded."""
        return self._disk_bytes

    def compute_logits(self, step: StepLayout, rows: Sequence[int]) -> torch.Tensor:
        """Writes the step's K/V; logits of some of its rows: (len(rows), vocab_size) float32."""
        config = self._config
        hidden = self._table.look_up(step.token_ids)
        if config.embedding_scale != 1.0:
            hidden *= config.embedding_scale
        turns = self._ropes.at(step.positions)
        for layer_idx, layer in enumerate(self._layers):
            normed = self._normed(hidden, layer.attention_norm)
            cos, sin = turns[config.ropes[layer_idx]]
            attended = self._attend(layer_idx, layer, step, normed, cos, sin)
            hidden += self._normed(attended, layer.after_attention_norm)
            normed = self._normed(hidden, layer.mlp_norm)
            gate, up = layer.gate_up(normed).chunk(2, dim=1)
            mixed = layer.down(self._activate(gate).mul_(up))
            hidden += self._normed(mixed, layer.after_mlp_norm)
        if not rows:
            return hidden.new_empty((0, config.vocab_size))
        logits = self._output(self._normed(hidden[list(rows)], self._norm))
        if config.logit_softcap is not None:
            logits = logits.div_(config.logit_softcap).tanh_().mul_(config.logit_softcap)
        return logits

    def _attend(
        self,
        layer_idx: int,
        layer: _Layer,
        step: StepLayout,
        normed: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
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
        turned = rotate(turning, cos, sin)
        query, key = turned.split((config.num_heads, config.num_kv_heads), dim=1)
        dtype = self._pool.compute_dtype
        out = write_and_attend(
            step,
            layer_idx,
            query.to(dtype).transpose(0, 1),
            key.to(dtype),
            value.to(dtype),
            layer.scoring,
        )
        return layer.attention_out(out.flatten(1).to(torch.float32))

    def _normed(self, rows: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        if weight is None:
            return rows
        return functional.rms_norm(rows, weight.shape, weight, self._config.norm_eps)

    def _activate(self, gate: torch.Tensor) -> torch.Tensor:
        if self._config.activation == "silu":
            return functional.silu(gate)
        return functional.gelu(gate, approximate="tanh")


def _ends(weights: LeanWeights, floors: Floors) -> tuple[FloatTable | Int8Table, Linear]:
    """What looks tokens up and what scores them."""
    match weights.embedding:
        case FloatMatrix(weight):
            table = FloatTable(weight)
            output = weights.output or weights.embedding
            return table, ready(output, None, floors)
        case Int8Matrix():
            table = Int8Table(weights.embedding)
            return table, table if weights.output is None else ready(weights.output, None, floors)
        case _:
            raise ValueError("an embedding is float or int8")


def _make_ready(config: LeanConfig, layer_idx: int, layer: LayerWeights, floors: Floors) -> _Layer:
    scoring = Scoring(config.attention_scale, config.windows[layer_idx], config.score_softcap)
    return _Layer(
        attention_norm=layer.attention_norm,
        q_norm=layer.q_norm,
        k_norm=layer.k_norm,
        after_attention_norm=layer.after_attention_norm,
        mlp_norm=layer.mlp_norm,
        after_mlp_norm=layer.after_mlp_norm,
        qkv=ready(layer.qkv, layer.qkv_bias, floors),
        attention_out=ready(layer.attention_out, layer.attention_out_bias, floors),
        gate_up=ready(layer.gate_up, layer.gate_up_bias, floors),
        down=ready(layer.down, layer.down_bias, floors),
        scoring=scoring,
    )
