"""Finds out at load whether a model can run on paged attention, by asking the model itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface

from services.core.blocks import BlockLayout
from services.core.sampling import SamplingParams
from worker.engine.errors import UnsupportedModel
from worker.engine.kv_pool import KvPool
from worker.engine.model_loader import LoadedModel
from worker.engine.port import SequenceSpec
from worker.engine.sequence import LiveSequence
from worker.engine.step_layout import StepLayout, lay_out
from worker.engine.step_plan import SequenceSlice

_PROBE_NAME = "tokenmill_probe"
_NUM_TOKENS = 24
_MIN_COSINE = 0.99

Forward = Callable[[LoadedModel, StepLayout, Sequence[int]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class LayerShape:
    """K/V of one token in any layer."""

    num_kv_heads: int
    head_dim: int

    def num_blocks(self, layout: BlockLayout) -> int:
        """Blocks that the probe's tokens need."""
        return -(-_NUM_TOKENS // layout.block_size)


def eager_logits(model: LoadedModel) -> torch.Tensor:
    """Logits of the last probe token with transformers' own attention: (vocab_size,)."""
    tokens = torch.tensor([_tokens(model)], device=model.module.device)
    return model.module(input_ids=tokens, use_cache=False).logits[0, -1]


def probe_layers(model: LoadedModel) -> LayerShape:
    """The one K/V shape of all layers.

    Raises:
        UnsupportedModel: a layer does not attend through the backend, shares another's K/V, has
            another shape, or asks for something that paged attention does not do.
    """
    shapes: dict[int, tuple[LayerShape, bool]] = {}

    def record(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: object,
    ) -> tuple[torch.Tensor, None]:
        for feature in ("s_aux", "position_bias"):
            if kwargs.get(feature) is not None:
                raise _refusal(model, f"its attention uses {feature}")
        if kwargs.get("kv_ctx") is not model:
            raise _refusal(model, "its code does not pass arguments on to the attention")
        if not getattr(module, "is_causal", True):
            raise _refusal(model, "its attention is not causal")
        layer_idx = int(module.layer_idx)  # type: ignore[arg-type]
        shape = LayerShape(num_kv_heads=key.shape[1], head_dim=key.shape[3])
        shapes[layer_idx] = (shape, value.shape == key.shape)
        return torch.zeros_like(query).transpose(1, 2), None

    AttentionInterface.register(_PROBE_NAME, record)
    model.module.set_attn_implementation(_PROBE_NAME)
    tokens = torch.tensor([_tokens(model)], device=model.module.device)
    positions = torch.arange(_NUM_TOKENS, device=model.module.device)[None]
    model.module(input_ids=tokens, position_ids=positions, use_cache=False, kv_ctx=model)
    if sorted(shapes) != list(range(model.num_layers)):
        raise _refusal(
            model, f"{len(shapes)} of its {model.num_layers} layers attend through the backend"
        )
    if len(set(shapes.values())) != 1:
        raise _refusal(model, "its layers differ in the shape of their K/V")
    shape, is_value_like_key = shapes[0]
    if not is_value_like_key:
        raise _refusal(model, "its keys and values differ in shape")
    return shape


def check_against_eager(
    model: LoadedModel, expected: torch.Tensor, pool: KvPool, forward: Forward
) -> None:
    """Compares the paged model, in a prefill and a decode, with what it said before.

    Raises:
        UnsupportedModel: it says something else.
    """
    spec = SequenceSpec("probe", _tokens(model)[:-1], SamplingParams())
    seq = LiveSequence(spec, arrival_idx=0, root=b"", max_model_len=_NUM_TOKENS)
    seq.token_ids = _tokens(model)
    seq.block_table = list(range(pool.num_blocks))
    num_prefill = _NUM_TOKENS - 1
    prefill = SequenceSlice(seq, 0, num_prefill, is_prefill=True, samples=False)
    forward(model, lay_out([prefill], pool), [])
    decode = SequenceSlice(seq, num_prefill, 1, is_prefill=False, samples=True)
    actual = forward(model, lay_out([decode], pool), [0])[0]
    cosine = nn.functional.cosine_similarity(actual.double(), expected.double(), dim=0).item()
    # Not "cosine < limit": a NaN must be refused too.
    if not cosine >= _MIN_COSINE:
        raise _refusal(model, f"paged attention gives other logits (cosine {cosine:.4f})")


def _tokens(model: LoadedModel) -> list[int]:
    # Spread over the vocabulary; the multiplier only has to be odd and large.
    return [(7919 * (i + 1)) % model.vocab_size for i in range(_NUM_TOKENS)]


def _refusal(model: LoadedModel, why: str) -> UnsupportedModel:
    return UnsupportedModel(architecture=model.architecture, why=why)
