"""A Llama-like model on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import structlog
import torch

from worker.engine.cuda.attention import PagedAttention, check_served, varlen_attention
from worker.engine.cuda.inputs import DeviceStep, PoolShape
from worker.engine.cuda.linear import GroupedLinear, RowKinds
from worker.engine.kv_pool import KvPool
from worker.engine.lean.config import NotLean
from worker.engine.lean.kv import layout_of, max_model_len_of, num_blocks_for
from worker.engine.lean.linear import Linear
from worker.engine.lean.load import LoadedWeights
from worker.engine.lean.rope_table import RopeTables
from worker.engine.lean.stack import LeanStack
from worker.engine.lean.weights import LeanWeights
from worker.engine.paged_attention import Scoring
from worker.engine.settings import EngineSettings
from worker.quant.matrices import FloatMatrix, Matrix

log = structlog.get_logger(__name__)


class CudaModel:
    """The lean stack over torch's paged attention.

    Args:
        loaded: weights in bf16 or fp16, on the CPU; moved.
        device: where to compute.
        attention: what attends; the reference takes its place where there is no GPU.

    Raises:
        NotLean: quantized weights or K/V, or something that the attention does not serve.
    """

    def __init__(
        self,
        loaded: LoadedWeights,
        settings: EngineSettings,
        device: torch.device,
        attention: PagedAttention = varlen_attention,
    ) -> None:
        config = loaded.config
        layout = layout_of(loaded, settings)
        if layout.dtype == "int8":
            raise NotLean("kv_dtype is int8; on a GPU that of the model")
        self._config = config
        self._precision = loaded.precision
        self._attention = attention
        self.max_model_len = max_model_len_of(loaded, settings)
        # What only fills a bucket up writes into the spare block.
        self.pool = KvPool(layout, num_blocks_for(layout, settings), device, num_spare=1)
        if attention is varlen_attention:
            check_served(
                block_size=layout.block_size,
                head_dim=config.head_dim,
                dtype=self.pool.compute_dtype,
                softcap=config.score_softcap is not None,
            )
        self._kinds = RowKinds()
        ropes = RopeTables(config.ropes, self.max_model_len, device)
        weights = _moved(loaded.weights, device)
        self._stack = LeanStack(config, weights, self._make_linear, ropes)
        log.info(
            "model.loaded",
            path="cuda",
            architecture=config.architecture,
            precision=self._precision,
            dtype=layout.dtype,
            device=str(device),
            num_blocks=self.pool.num_blocks,
            weight_bytes=self._stack.weight_bytes,
        )

    @property
    def numerics(self) -> str:
        """What decides a token's bits beside the weights."""
        return f"cuda:{self._precision}:{self.pool.layout.dtype}"

    @property
    def vocab_size(self) -> int:
        """Ids 0 .. vocab_size - 1 are valid."""
        return self._config.vocab_size

    @property
    def pool_shape(self) -> PoolShape:
        """What the inputs need to know of the pool."""
        block_size = self.pool.layout.block_size
        width = -(-self.max_model_len // block_size)
        return PoolShape(block_size, width, scratch_block=self.pool.num_blocks)

    def hidden(self, step: DeviceStep) -> torch.Tensor:
        """Writes the step's K/V; (num_rows, hidden_size) float32."""
        slots = step.slots.long()

        def attend(
            layer_idx: int,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            scoring: Scoring,
        ) -> torch.Tensor:
            dtype = self.pool.compute_dtype
            self.pool.write(layer_idx, slots, key.to(dtype), value.to(dtype))
            return self._attended(layer_idx, query.to(dtype), step, scoring)

        self._kinds.num_decode_rows = step.num_decode_rows
        return self._stack.hidden(step.token_ids, step.positions, attend)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of the vocabulary: (num_rows, hidden_size) -> (num_rows, vocab_size) float32."""
        self._kinds.num_decode_rows = len(hidden)
        return self._stack.logits(hidden)

    def logits_of(self, hidden: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The same of some rows."""
        if not rows:
            return hidden.new_empty((0, self._config.vocab_size))
        return self.logits(hidden[torch.tensor(rows, device=hidden.device)])

    def _attended(
        self, layer_idx: int, query: torch.Tensor, step: DeviceStep, scoring: Scoring
    ) -> torch.Tensor:
        keys, values = self.pool.keys[layer_idx], self.pool.values[layer_idx]
        num_decodes = step.num_decode_rows
        parts: list[torch.Tensor] = []
        if step.decodes is not None:
            rows = query[:num_decodes].contiguous()
            parts.append(self._attention(rows, keys, values, step.decodes, scoring))
        if step.prefills is not None:
            rows = query[num_decodes:].contiguous()
            parts.append(self._attention(rows, keys, values, step.prefills, scoring))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _make_linear(self, matrix: Matrix, bias: torch.Tensor | None) -> Linear:
        if not isinstance(matrix, FloatMatrix):
            raise NotLean("quantized weights on a GPU")
        return GroupedLinear(matrix.weight, bias, self._kinds)


def _moved(weights: LeanWeights, device: torch.device) -> LeanWeights:
    def moved(part: object) -> object:
        if isinstance(part, torch.Tensor):
            return part.to(device)
        return FloatMatrix(part.weight.to(device)) if isinstance(part, FloatMatrix) else part

    layers = [
        replace(layer, **{f.name: moved(getattr(layer, f.name)) for f in fields(layer)})
        for layer in weights.layers
    ]
    return replace(
        weights,
        embedding=moved(weights.embedding),
        layers=layers,
        norm=weights.norm.to(device),
        output=moved(weights.output),
    )  # pyright: ignore[reportArgumentType]
