"""A Llama-like model on a CPU, by torch's own operations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog
import torch

from worker.engine.kv_pool import KvPool
from worker.engine.lean.kv import max_model_len_of, pool_for
from worker.engine.lean.linear import Floors, ready
from worker.engine.lean.load import LoadedWeights
from worker.engine.lean.rope_table import RopeTables
from worker.engine.lean.stack import LeanStack
from worker.engine.lean.weights import num_weights
from worker.engine.paged_attention import Scoring, write_and_attend
from worker.engine.settings import EngineSettings
from worker.engine.step_layout import StepLayout

log = structlog.get_logger(__name__)


class LeanModel:
    """A StepModel for Llama, Mistral, Qwen2, Qwen3 and Gemma 3."""

    def __init__(self, loaded: LoadedWeights, settings: EngineSettings) -> None:
        self._config = config = loaded.config
        self._precision = loaded.precision
        self._max_model_len = max_model_len_of(loaded, settings)
        self._num_weights = num_weights(config, loaded.weights)
        self._disk_bytes = loaded.disk_bytes
        ropes = RopeTables(config.ropes, self._max_model_len)
        self._stack = LeanStack(config, loaded.weights, partial(ready, floors=Floors()), ropes)
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
        return self._stack.weight_bytes

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

        def attend(
            layer_idx: int,
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            scoring: Scoring,
        ) -> torch.Tensor:
            dtype = self._pool.compute_dtype
            heads_first = query.to(dtype).transpose(0, 1)
            return write_and_attend(
                step, layer_idx, heads_first, key.to(dtype), value.to(dtype), scoring
            )

        hidden = self._stack.hidden(step.token_ids, step.positions, attend)
        if not rows:
            return hidden.new_empty((0, self._config.vocab_size))
        return self._stack.logits(hidden[list(rows)])
