"""A Llama-like model whose layers run in one native call per step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import structlog
import torch

from worker.engine.kv_pool import KvPool
from worker.engine.lean.config import NotLean
from worker.engine.lean.kv import max_model_len_of, pool_for
from worker.engine.lean.load import LoadedWeights
from worker.engine.lean.rope_table import RopeTables
from worker.engine.lean.weights import LayerWeights, LeanWeights, num_weights
from worker.engine.settings import EngineSettings
from worker.engine.step_layout import StepLayout
from worker.kernels.build import KernelsUnavailable, load_kernels
from worker.quant.matrices import FloatMatrix, Int4Matrix, Int8Matrix, Matrix, size_bytes

log = structlog.get_logger(__name__)

_KEY_TILE = 16
_HEAD_TILE = 32
_ROW_TILE = 4
_TILE_BYTES = 64


class NativeModel:
    """A StepModel on worker/kernels/native.

    A row's bits depend on nothing but the row and its sequence: not on company, chunking, prefill
    against decode, or the number of threads.

    Raises:
        NotLean: the model, or this machine, is not one that the kernels can serve.
    """

    def __init__(self, loaded: LoadedWeights, settings: EngineSettings) -> None:
        config = loaded.config
        _check_served(loaded, settings)
        try:
            kernels = load_kernels()
        except KernelsUnavailable as exc:
            raise NotLean(str(exc)) from exc
        self._config = config
        self._precision = loaded.precision
        self._max_model_len = max_model_len_of(loaded, settings)
        ropes = RopeTables(config.ropes, self._max_model_len)
        turns = ropes.at(torch.arange(self._max_model_len))[config.ropes[0]]
        self._cos, self._sin = (part[:, 0].contiguous() for part in turns)
        self._stack: Any = kernels.Stack(
            config.hidden_size,
            config.ffn_size,
            config.num_heads,
            config.num_kv_heads,
            config.head_dim,
            config.norm_eps,
            config.attention_scale,
            torch.get_num_threads(),
        )
        weights = loaded.weights
        self._num_weights = num_weights(config, weights)
        self._weight_bytes = sum(size_bytes(matrix) for matrix in _matrices(weights))
        self._disk_bytes = loaded.disk_bytes
        unpacked = weights.layers
        # One by one, so that no more than one layer is in memory twice.
        while unpacked:
            layer_idx = config.num_layers - len(unpacked)
            self._add_layer(unpacked.pop(0), config.windows[layer_idx] or 0)
        self._table: int = self._add_matrix(weights.embedding, None)
        self._output = (
            self._table if weights.output is None else self._add_matrix(weights.output, None)
        )
        self._norm = weights.norm.contiguous()
        self._pool = pool_for(loaded, settings)
        log.info(
            "model.loaded",
            path="native",
            architecture=config.architecture,
            precision=self._precision,
            dtype=self._pool.layout.dtype,
            num_blocks=self._pool.num_blocks,
            weight_bytes=self._weight_bytes,
        )

    @property
    def pool(self) -> KvPool:
        """Memory of the K/V blocks."""
        return self._pool

    @property
    def numerics(self) -> str:
        """What decides a token's bits beside the weights."""
        return f"native:{self._precision}:{self._pool.layout.dtype}"

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
        return self._weight_bytes

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
        hidden = self._stack.look_up(self._table, step.token_ids)
        block_size = self._pool.layout.block_size
        first_block = torch.empty_like(step.positions)
        for segment in (*step.decodes, *step.prefills):
            end_row = segment.first_row + segment.num_rows
            first_block[segment.first_row : end_row] = segment.first_gathered // block_size
        self._stack.run(
            hidden,
            step.positions,
            step.slots,
            first_block,
            step.block_ids,
            self._cos,
            self._sin,
            self._pool.keys,
            self._pool.values,
        )
        if not rows:
            return hidden.new_empty((0, self._config.vocab_size))
        return self._stack.project(self._output, hidden[list(rows)].contiguous(), self._norm)

    def _add_layer(self, layer: LayerWeights, window: int) -> None:
        matrices = (
            (layer.qkv, layer.qkv_bias),
            (layer.attention_out, layer.attention_out_bias),
            (layer.gate_up, layer.gate_up_bias),
            (layer.down, layer.down_bias),
        )
        self._stack.add_layer(
            *(self._add_matrix(matrix, bias) for matrix, bias in matrices),
            layer.attention_norm.contiguous(),
            layer.mlp_norm.contiguous(),
            layer.q_norm,
            layer.k_norm,
            window,
        )

    def _add_matrix(self, matrix: Matrix, bias: torch.Tensor | None) -> int:
        match matrix:
            case FloatMatrix(weight):
                return self._stack.add_matrix(weight.contiguous(), None, bias, False)
            case Int8Matrix(codes, scales, is_precise):
                codes, scales = codes.contiguous(), scales.contiguous()
                return self._stack.add_matrix(codes, scales, bias, is_precise)
            case Int4Matrix():
                raise AssertionError("refused before")


def _matrices(weights: LeanWeights) -> Iterator[Matrix]:
    yield weights.embedding
    if weights.output is not None:
        yield weights.output
    for layer in weights.layers:
        yield from (layer.qkv, layer.attention_out, layer.gate_up, layer.down)


def _check_served(loaded: LoadedWeights, settings: EngineSettings) -> None:
    """Before anything is packed: the lean path may still want the weights."""
    config = loaded.config
    reasons = {
        "norms after attention and MLP": config.is_sandwiched,
        f"activation {config.activation}": config.activation != "silu",
        "soft-capped scores or logits": bool(config.score_softcap or config.logit_softcap),
        "scaled embeddings": config.embedding_scale != 1.0,
        "several rotary embeddings": len(set(config.ropes)) != 1,
        f"heads of {config.head_dim}": config.head_dim % _HEAD_TILE != 0 or config.head_dim > 256,
        f"K/V in {loaded.kv_dtype}": loaded.kv_dtype not in ("float32", "bfloat16"),
        f"blocks of {settings.block_size}": settings.block_size % _KEY_TILE != 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise NotLean(f"the kernels do not serve {reason}")
    for matrix in _matrices(loaded.weights):
        _check_shape(matrix)


def _check_shape(matrix: Matrix) -> None:
    match matrix:
        case FloatMatrix(weight):
            rows, columns, tile = *weight.shape, _TILE_BYTES // weight.element_size()
        case Int8Matrix(codes):
            rows, columns, tile = *codes.shape, _TILE_BYTES
        case Int4Matrix():
            raise NotLean("the kernels do not serve int4 weights")
    if rows % _ROW_TILE or columns % tile:
        raise NotLean(
            f"the kernels do not serve a matrix of {rows} x {columns}: they take"
            f" multiples of {_ROW_TILE} x {tile}"
        )
