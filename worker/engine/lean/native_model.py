"""A Llama-like model whose layers run in one native call per step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import structlog
import torch

from worker.engine.int8_kv_pool import Int8KvPool
from worker.engine.kv_pool import KvPool
from worker.engine.lean.config import NotLean
from worker.engine.lean.kv import max_model_len_of, pool_for
from worker.engine.lean.load import LoadedWeights
from worker.engine.lean.rope import Rope
from worker.engine.lean.rope_table import RopeTables
from worker.engine.lean.weights import LayerWeights, LeanWeights, num_weights
from worker.engine.settings import EngineSettings
from worker.engine.step_layout import StepLayout
from worker.engine.step_phases import add, is_timed
from worker.kernels.build import (
    KernelsUnavailable,
    choose_instruction_set,
    kernels_digest,
    load_kernels,
)
from worker.quant.matrices import FloatMatrix, Int4Matrix, Int8Matrix, Matrix, size_bytes

log = structlog.get_logger(__name__)

_PANEL = 32
_LANES = 16
"""Of the kernels: what they compute together, columns and values."""

_KV_DTYPES = ("float32", "bfloat16", "int8")


class NativeModel:
    """A StepModel on worker/kernels/native.

    A row's bits depend on nothing but the row and its sequence: not on company, chunking, prefill
    against decode, or the number of threads; but on the CPU's instructions (`settings.kernels`).

    Raises:
        NotLean: the model, or this machine, is not one that the kernels can serve.
    """

    def __init__(self, loaded: LoadedWeights, settings: EngineSettings) -> None:
        config = loaded.config
        _check_served(loaded, settings)
        try:
            self._instruction_set = choose_instruction_set(settings.kernels)
            kernels = load_kernels(self._instruction_set)
        except KernelsUnavailable as exc:
            raise NotLean(str(exc)) from exc
        self._config = config
        self._precision = loaded.precision
        self._max_model_len = max_model_len_of(loaded, settings)
        self._stack: Any = kernels.Stack(
            hidden=config.hidden_size,
            ffn=config.ffn_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            eps=config.norm_eps,
            attention_scale=config.attention_scale,
            score_softcap=config.score_softcap or 0.0,
            is_gelu=config.activation == "gelu_tanh",
            num_threads=torch.get_num_threads(),
        )
        self._ropes = self._add_ropes()
        weights = loaded.weights
        self._num_weights = num_weights(config, weights)
        self._weight_bytes = sum(size_bytes(matrix) for matrix in _matrices(weights))
        self._disk_bytes = loaded.disk_bytes
        unpacked = weights.layers
        # One by one, so that no more than one layer is in memory twice.
        while unpacked:
            layer_idx = config.num_layers - len(unpacked)
            self._add_layer(layer_idx, unpacked.pop(0))
        self._table = self._add_matrix(weights.embedding, None)
        self._output = (
            self._table if weights.output is None else self._add_matrix(weights.output, None)
        )
        self._norm = _array(weights.norm)
        self._pool = pool_for(loaded, settings)
        pool = self._pool
        is_int8 = isinstance(pool, Int8KvPool)
        self._stack.use_pool(
            _array(pool.keys),
            _array(pool.values),
            _array(pool.key_scales) if is_int8 else None,
            _array(pool.value_scales) if is_int8 else None,
        )
        log.info(
            "model.loaded",
            path="native",
            instruction_set=self._instruction_set.name,
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
        # The kernels' source and instructions: they decide bits, and how values lie in a block.
        kernels = kernels_digest(self._instruction_set)
        return f"native:{kernels}:{self._precision}:{self._pool.layout.dtype}"

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
        if not is_timed():
            return self._compute(step, rows)
        self._stack.time_phases(True)
        try:
            return self._compute(step, rows)
        finally:
            add(self._stack.phase_seconds())
            self._stack.time_phases(False)

    def _compute(self, step: StepLayout, rows: Sequence[int]) -> torch.Tensor:
        config = self._config
        hidden = self._stack.look_up(self._table, step.token_ids.numpy())
        if config.embedding_scale != 1.0:
            hidden *= config.embedding_scale
        self._stack.run(
            hidden=hidden,
            positions=step.positions.numpy(),
            slots=step.slots.numpy(),
            first_block=_first_blocks(step),
            block_ids=step.block_ids.numpy(),
        )
        if not rows:
            return torch.empty((0, config.vocab_size))
        chosen = numpy.ascontiguousarray(hidden[list(rows)])
        logits = torch.from_numpy(self._stack.project(self._output, chosen, self._norm))
        if config.logit_softcap is not None:
            logits = logits.div_(config.logit_softcap).tanh_().mul_(config.logit_softcap)
        return logits

    def _add_ropes(self) -> dict[Rope, int]:
        ropes = dict.fromkeys(self._config.ropes)
        tables = RopeTables(ropes, self._max_model_len).at(torch.arange(self._max_model_len))
        return {
            rope: self._stack.add_rope(*(_array(part[:, 0]) for part in tables[rope]))
            for rope in ropes
        }

    def _add_layer(self, layer_idx: int, layer: LayerWeights) -> None:
        self._stack.add_layer(
            qkv=self._add_matrix(layer.qkv, layer.qkv_bias),
            attention_out=self._add_matrix(layer.attention_out, layer.attention_out_bias),
            gate_up=self._add_matrix(layer.gate_up, layer.gate_up_bias, is_paired=True),
            down=self._add_matrix(layer.down, layer.down_bias),
            rope=self._ropes[self._config.ropes[layer_idx]],
            window=self._config.windows[layer_idx] or 0,
            attention_norm=_array(layer.attention_norm),
            mlp_norm=_array(layer.mlp_norm),
            q_norm=_array_or_none(layer.q_norm),
            k_norm=_array_or_none(layer.k_norm),
            after_attention_norm=_array_or_none(layer.after_attention_norm),
            after_mlp_norm=_array_or_none(layer.after_mlp_norm),
        )

    def _add_matrix(
        self, matrix: Matrix, bias: torch.Tensor | None, *, is_paired: bool = False
    ) -> int:
        match matrix:
            case FloatMatrix(weight):
                values, scales, is_precise = weight, None, False
            case Int8Matrix(codes, scales, is_precise):
                values = codes
            case Int4Matrix():
                return self._add_int4(matrix, bias, is_paired=is_paired)
        added: int = self._stack.add_matrix(
            _array(values), _array_or_none(scales), _array_or_none(bias), is_precise, is_paired
        )
        return added

    def _add_int4(self, matrix: Int4Matrix, bias: torch.Tensor | None, *, is_paired: bool) -> int:
        added: int = self._stack.add_int4(
            packed=_array(matrix.packed),
            steps=_array(matrix.steps),
            bases=_array(matrix.bases),
            scales=_array(matrix.scales),
            biases=_array_or_none(bias),
            is_precise=matrix.is_precise,
            is_paired=is_paired,
        )
        return added


def _array(tensor: torch.Tensor) -> Any:
    """The same memory if contiguous; bfloat16 as its bits, since numpy has no such type."""
    tensor = tensor.contiguous()
    return (tensor.view(torch.int16) if tensor.dtype is torch.bfloat16 else tensor).numpy()


def _array_or_none(tensor: torch.Tensor | None) -> Any:
    return None if tensor is None else _array(tensor)


def _first_blocks(step: StepLayout) -> Any:
    """Where each row's block table begins in the step's: (num_rows,) int64."""
    block_size = step.pool.layout.block_size
    first_blocks = numpy.empty(len(step.token_ids), dtype=numpy.int64)
    for segment in (*step.decodes, *step.prefills):
        end_row = segment.first_row + segment.num_rows
        first_blocks[segment.first_row : end_row] = segment.first_gathered // block_size
    return first_blocks


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
        f"heads of {config.head_dim}": config.head_dim % _PANEL != 0 or config.head_dim > 256,
        f"K/V in {loaded.kv_dtype}": loaded.kv_dtype not in _KV_DTYPES,
        f"blocks of {settings.block_size}": settings.block_size % _PANEL != 0,
        f"a width of {config.hidden_size}": config.hidden_size % _LANES != 0,
        f"an MLP of {config.ffn_size}": config.ffn_size % _LANES != 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise NotLean(f"the kernels do not serve {reason}")
