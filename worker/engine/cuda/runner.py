"""Runs steps on a GPU: graphs for decode steps, the next one laid out while this one computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from worker.engine.cuda.attention import PagedAttention, varlen_attention
from worker.engine.cuda.graphs import DecodeGraphs
from worker.engine.cuda.inputs import StepInputs
from worker.engine.cuda.lookahead import Prepared, is_that, prepare_next
from worker.engine.cuda.model import CudaModel
from worker.engine.cuda.step_arrays import arrays_of
from worker.engine.lean.load import load_lean
from worker.engine.pool_runner import PoolRunner
from worker.engine.runner import StepResult
from worker.engine.sampling.reading import read_logits, rows_wanted
from worker.engine.settings import EngineSettings
from worker.engine.step_plan import SequenceSlice


class CudaRunner(PoolRunner):
    """A StepRunner over a CudaModel; loads the model and captures its graphs when constructed.

    Raises:
        NotLean: another path may compute this model; this one does not.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model_dir: Path,
        settings: EngineSettings,
        device: torch.device,
        attention: PagedAttention = varlen_attention,
    ) -> None:
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        self._model = CudaModel(load_lean(model_dir, settings), settings, device, attention)
        super().__init__(model_dir, self._model)
        self._block_size = self._model.pool.layout.block_size
        self._inputs = StepInputs(
            settings.max_batched_tokens, settings.max_num_seqs, self._model.pool_shape, device
        )
        self._graphs = DecodeGraphs(self._model, settings.max_num_seqs, device)
        if device.type == "cuda":
            self._graphs.capture_all()
        self._prepared: tuple[Prepared, int] | None = None

    @torch.inference_mode()
    def run(self, slices: Sequence[SequenceSlice]) -> StepResult:
        """Computes the slices: a captured step where all decode, else one launched as it is."""
        ordered = sorted(slices, key=lambda piece: piece.is_prefill)
        wanted = rows_wanted(ordered)
        logits = self._started(ordered, wanted.rows)
        # The device is at work; what follows reads its results, and so waits for it.
        self._prepare(ordered)
        return read_logits(logits, wanted, self._eos_token_ids)

    def _started(self, ordered: Sequence[SequenceSlice], rows: Sequence[int]) -> torch.Tensor:
        prepared, self._prepared = self._prepared, None
        if prepared is not None and is_that(prepared[0], ordered):
            token_ids = [piece.seq.token_ids[piece.start] for piece in ordered]
            return _rows_of(self._graphs.run(prepared[1], token_ids), rows)
        arrays = arrays_of(ordered, self._block_size)
        if not len(arrays.prefills):
            size = self._graphs.lay_out(arrays.decodes)
            if size is not None:
                return _rows_of(self._graphs.run(size, arrays.decodes.token_ids), rows)
        step = self._inputs.send(arrays)
        return self._model.logits_of(self._model.hidden(step), rows)

    def _prepare(self, ordered: Sequence[SequenceSlice]) -> None:
        following = prepare_next(ordered, self._block_size)
        size = self._graphs.lay_out(following.rows) if following is not None else None
        self._prepared = (following, size) if following is not None and size is not None else None


def _rows_of(logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Some rows; without a copy where they are the first ones, as they nearly always are."""
    if list(rows) == list(range(len(rows))):
        return logits[: len(rows)]
    return logits[torch.tensor(rows, device=logits.device)]
