"""Runs packed steps through a transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog
import torch
from torch import nn

from services.core.blocks import BlockLayout
from worker.engine import paged_attention
from worker.engine.kv_pool import KvPool, block_bytes
from worker.engine.layer_probe import check_against_eager, eager_logits, probe_layers
from worker.engine.model_files import eos_token_ids, model_revision
from worker.engine.model_loader import LoadedModel, load_model
from worker.engine.packed_linear import is_packing_available, pack_linears
from worker.engine.runner import StepResult
from worker.engine.sampler import SampleRow, sample
from worker.engine.settings import EngineSettings
from worker.engine.step_layout import StepLayout, lay_out
from worker.engine.step_scheduler import SequenceSlice

log = structlog.get_logger(__name__)


class ModelRunner:
    """A StepRunner over a model directory; loads and checks the model when constructed.

    Raises:
        UnsupportedModel: the model cannot be computed rightly on paged attention.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)
        self._revision = model_revision(model_dir)
        self._eos_token_ids = eos_token_ids(model_dir)
        self._model = load_model(model_dir, settings)
        self._pool = _prepare(self._model, settings)

    @property
    def layout(self) -> BlockLayout:
        """Layout of the K/V blocks."""
        return self._pool.layout

    @property
    def model_revision(self) -> str:
        """Digest of the weights."""
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
        logits = forward(self._model, step, last_rows)
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


def forward(model: LoadedModel, step: StepLayout, rows: Sequence[int]) -> torch.Tensor:
    """Logits of some rows of a step: (len(rows), vocab_size)."""
    # A step without a sampling row still has to run; one row of logits is then thrown away.
    kept = torch.tensor(rows or [0], device=step.token_ids.device)
    keep = {"logits_to_keep": kept} if model.can_keep_logits else {}
    logits = model.module(
        input_ids=step.token_ids[None],
        position_ids=step.positions[None],
        use_cache=False,
        kv_ctx=step,
        **keep,
    ).logits[0]
    logits = logits if model.can_keep_logits else logits[kept]
    return logits[: len(rows)]


@torch.inference_mode()
def _prepare(model: LoadedModel, settings: EngineSettings) -> KvPool:
    """Switches to paged attention and packed linears; checks that the model says the same."""
    module = model.module
    expected = eager_logits(model)
    shape = probe_layers(model)
    paged_attention.register()
    module.set_attn_implementation(paged_attention.ATTENTION_NAME)
    dtype, device = module.dtype, module.device
    num_packed = pack_linears(module) if is_packing_available(dtype, device) else 0
    layout = BlockLayout(
        dtype=str(dtype).removeprefix("torch."),
        num_layers=model.num_layers,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        block_size=settings.block_size,
    )
    num_blocks = settings.num_blocks or settings.kv_bytes // block_bytes(layout)
    pool = KvPool(layout, max(1, num_blocks), device)
    check_against_eager(model, expected, KvPool(layout, shape.num_blocks(layout), device), forward)
    log.info(
        "model.loaded",
        architecture=model.architecture,
        dtype=layout.dtype,
        device=str(device),
        num_blocks=pool.num_blocks,
        num_packed_linears=num_packed,
        num_parameters=sum(p.numel() for p in nn.Module.parameters(module)),
    )
    return pool
