"""Any transformers model with the attention backend, on paged attention."""

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
from worker.engine.model_loader import LoadedModel, load_model
from worker.engine.packed_linear import is_packing_available, pack_linears
from worker.engine.settings import EngineSettings
from worker.engine.step_layout import StepLayout

log = structlog.get_logger(__name__)


class GeneralModel:
    """A StepModel over transformers' own code; loads and checks the model when constructed.

    Raises:
        UnsupportedModel: the model cannot be computed rightly on paged attention.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings) -> None:
        self._model = load_model(model_dir, settings)
        self._pool = _prepare(self._model, settings)

    @property
    def pool(self) -> KvPool:
        """Memory of the K/V blocks."""
        return self._pool

    @property
    def numerics(self) -> str:
        """What decides a token's bits beside the weights."""
        return f"general:{self._pool.layout.dtype}"

    @property
    def vocab_size(self) -> int:
        """Ids 0 .. vocab_size - 1 are valid."""
        return self._model.vocab_size

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus answer."""
        return self._model.max_model_len

    def compute_logits(self, step: StepLayout, rows: Sequence[int]) -> torch.Tensor:
        """Writes the step's K/V; logits of some of its rows: (len(rows), vocab_size)."""
        return _forward(self._model, step, rows)


def _forward(model: LoadedModel, step: StepLayout, rows: Sequence[int]) -> torch.Tensor:
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
    check_against_eager(model, expected, KvPool(layout, shape.num_blocks(layout), device), _forward)
    log.info(
        "model.loaded",
        path="general",
        architecture=model.architecture,
        dtype=layout.dtype,
        device=str(device),
        num_blocks=pool.num_blocks,
        num_packed_linears=num_packed,
        num_parameters=sum(p.numel() for p in nn.Module.parameters(module)),
    )
    return pool
