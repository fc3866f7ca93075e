"""Runs packed steps through a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from services.core.blocks import BlockLayout
from worker.engine.model_files import eos_token_ids, model_revision
from worker.engine.model_paths import load_step_model
from worker.engine.runner import StepResult
from worker.engine.sampler import SampleRow, sample
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
        last_rows: list[int] = []
        num_rows = 0
        for piece in ordered:
            num_rows += piece.num_tokens
            if piece.samples:
                last_rows.append(num_rows - 1)
        samplers = [piece.seq for piece in ordered if piece.samples]
        logits = self._model.compute_logits(step, last_rows)
        rows = [SampleRow(seq.sampling, seq.num_output) for seq in samplers]
        chosen = sample(logits, rows, self._eos_token_ids) if rows else []
        token_ids: dict[str, int] = {}
        errors: dict[str, str] = {}
        for seq, token_id in zip(samplers, chosen, strict=True):
            if token_id is None:
                errors[seq.seq_id] = "the model's logits are not finite"
            else:
                token_ids[seq.seq_id] = token_id
        return StepResult(token_ids, errors)

    def export_block(self, block_id: int) -> bytes:
        """A copy of one block's bytes, in the order of the layout."""
        return self._pool.export_block(block_id)

    def import_block(self, block_id: int, content: bytes | memoryview) -> None:
        """Overwrites one block.

        Raises:
            ValueError: not the size of a block.
        """
        self._pool.import_block(block_id, content)
