"""Runs packed steps through a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from services.core.blocks import BlockLayout
from worker.engine.model_files import eos_token_ids, model_revision
from worker.engine.model_paths import load_step_model
from worker.engine.runner import StepResult
from worker.engine.sampling.reading import read_logits, rows_wanted
from worker.engine.settings import EngineSettings
from worker.engine.step_layout import lay_out
from worker.engine.step_scheduler import SequenceSlice


class ModelRunner:
    """A StepRunner over a model directory; loads and checks the model when constructed.

    Raises:
        UnsupportedModel: the model cannot be computed rightly on paged attention.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        self._eos_token_ids = eos_token_ids(model_dir)
        self._model = load_step_model(model_dir, settings)
        self._pool = self._model.pool
        self._revision = model_revision(model_dir, self._model.numerics)

    @property
    def layout(self) -> BlockLayout:
        """Layout of the K/V blocks."""
        return self._pool.layout

    @property
    def model_revision(self) -> str:
        """Digest of the weights and of how they are computed."""
        return self._revision

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return self._pool.num_blocks

    @property
    def vocab_size(self) -> int:
        """Ids 0 .. vocab_size - 1 are valid."""
        return self._model.vocab_size

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus answer."""
        return self._model.max_model_len

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self._eos_token_ids

    @torch.inference_mode()
    def run(self, slices: Sequence[SequenceSlice]) -> StepResult:
        """Computes the slices in one forward pass."""
        # Kind by kind, so that the rows of a kind are neighbours.
        ordered = sorted(slices, key=lambda piece: piece.is_prefill)
        step = lay_out(ordered, self._pool)
        wanted = rows_wanted(ordered)
        logits = self._model.compute_logits(step, wanted.rows)
        return read_logits(logits, wanted, self._eos_token_ids)

    def export_block(self, block_id: int) -> bytes:
        """A copy of one block's bytes, in the order of the layout."""
        return self._pool.export_block(block_id)

    def import_block(self, block_id: int, content: bytes | memoryview) -> None:
        """Overwrites one block.

        Raises:
            ValueError: not the size of a block.
        """
        self._pool.import_block(block_id, content)
