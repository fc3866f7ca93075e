"""What the runner needs of a model, whichever path computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from worker.engine.kv_pool import KvPool
from worker.engine.step_layout import StepLayout


class PooledModel(Protocol):
    """A model with its weights and its K/V pool."""

    @property
    def pool(self) -> KvPool:
        """Memory of the K/V blocks."""
        ...

    @property
    def numerics(self) -> str:
        """What decides a token's bits beside the weights: path, precision, kernels."""
        ...

    @property
    def vocab_size(self) -> int:
        """Ids 0 .. vocab_size - 1 are valid."""
        ...

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus answer."""
        ...


class StepModel(PooledModel, Protocol):
    """A model that computes a step from its layout."""

    def compute_logits(self, step: StepLayout, rows: Sequence[int]) -> torch.Tensor:
        """Writes the step's K/V; logits of some of its rows: (len(rows), vocab_size)."""
        ...
