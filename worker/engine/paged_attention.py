"""Attention over the paged pool, in plain torch: the reference that faster kernels are held to.

Registered with transformers under a name for which it makes no masks, so that any model with the
attention backend runs on packed rows. Every sequence attends by itself, in shapes that depend on
the token's position alone: what else is in the step changes no bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from worker.engine.step_layout import TILE, Segment, StepLayout

ATTENTION_NAME = "tokenmill_paged"


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a layer turns queries and keys into weights.

    Attributes:
        scale: factor of the scores.
        window: how many tokens back a token sees, itself included; None sees all.
        softcap: scores are squeezed into (-softcap, softcap); None leaves them.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None


def register() -> None:
    """Makes the attention known to transformers. Twice is safe."""
    # Here: its import takes seconds, and the lean path has no use for it.
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION_NAME, paged_attention)


def paged_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    kv_ctx: StepLayout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Stores the step's K/V and attends.

    Args:
        module: the layer; says its index.
        query: (1, num_heads, num_rows, head_dim), positions applied.
        key: (1, num_kv_heads, num_rows, head_dim).
        value: like key.
        attention_mask: None, since transformers makes none for us.
        kv_ctx: the step.
        scaling: factor of the scores; None is head_dim ** -0.5.
        sliding_window: tokens that a token sees; None sees all.
        softcap: limit of the scores; None has none.

    Returns:
        (1, num_rows, num_heads, head_dim), and no weights.
    """
    layer_idx = int(module.layer_idx)  # type: ignore[arg-type]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scoring = Scoring(scale, sliding_window, softcap)
    keys, values = key[0].transpose(0, 1), value[0].transpose(0, 1)
    return write_and_attend(kv_ctx, layer_idx, query[0], keys, values, scoring)[None], None


def write_and_attend(
    step: StepLayout,
    layer_idx: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scoring: Scoring,
) -> torch.Tensor:
    """Stores a layer's new K/V and attends.

    Args:
        step: which rows are whose.
        layer_idx: which layer.
        query: (num_heads, num_rows, head_dim), positions applied.
        key: (num_rows, num_kv_heads, head_dim).
        value: like key.
        scoring: of the layer.

    Returns:
        (num_rows, num_heads, head_dim).
    """
    step.pool.write(layer_idx, step.slots, key, value)
    keys, values = step.pool.gather(layer_idx, step.block_ids)
    out = torch.empty_like(query.transpose(0, 1), memory_format=torch.contiguous_format)
    for segment in step.decodes:
        row = segment.first_row
        out[row] = _attend_token(query[:, row], keys, values, segment, scoring)
    for segment in step.prefills:
        rows = slice(segment.first_row, segment.first_row + segment.num_rows)
        out[rows] = _attend_tiles(query[:, rows], keys, values, segment, scoring, step)
    return out


def _attend_token(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    segment: Segment,
    scoring: Scoring,
) -> torch.Tensor:
    """One token: (num_heads, head_dim) -> the same shape, over exactly the keys that it sees."""
    num_kv_heads = keys.shape[1]
    first = 0 if scoring.window is None else max(0, segment.end - scoring.window)
    seen = slice(segment.first_gathered + first, segment.first_gathered + segment.end)
    # The heads that share K/V stand in for query positions: 5 times as fast as enable_gqa.
    # A copy: its strides must not depend on the number of rows in the step.
    grouped = query.contiguous().view(1, num_kv_heads, -1, query.shape[-1])
    out = attend(grouped, _heads_first(keys[seen]), _heads_first(values[seen]), None, scoring)
    return out.reshape(query.shape)


def _attend_tiles(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    segment: Segment,
    scoring: Scoring,
    step: StepLayout,
) -> torch.Tensor:
    """Prompt tokens: (num_heads, num_rows, head_dim) -> (num_rows, num_heads, head_dim)."""
    num_heads, num_rows, head_dim = query.shape
    first_tile = segment.start - segment.start % TILE
    padded_end = -(-segment.end // TILE) * TILE
    offset = segment.start - first_tile
    tiles = query.new_zeros(num_heads, padded_end - first_tile, head_dim)
    tiles[:, offset : offset + num_rows] = query
    # Zeros past the end: what an earlier owner left in the block must not reach us, even as NaN.
    keys = _padded(keys, segment, padded_end)
    values = _padded(values, segment, padded_end)
    out = torch.empty_like(tiles)
    for tile_start in range(first_tile, padded_end, TILE):
        tile_end = tile_start + TILE
        rows = slice(tile_start - first_tile, tile_end - first_tile)
        out[:, rows] = attend(
            tiles[None, :, rows],
            _heads_first(keys[:tile_end]),
            _heads_first(values[:tile_end]),
            step.tile_mask(tile_start, scoring.window),
            scoring,
        )[0]
    return out[:, offset : offset + num_rows].transpose(0, 1)


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scoring: Scoring,
) -> torch.Tensor:
    """Softmax attention.

    Args:
        query: (1, num_heads, num_rows, head_dim).
        keys: (1, num_kv_heads, num_keys, head_dim).
        values: like keys.
        mask: (num_rows, num_keys), added to the scores; None hides nothing.
        scoring: how scores come about.

    Returns:
        Like query.
    """
    if scoring.softcap is None:
        return functional.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=mask,
            scale=scoring.scale,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
    num_repeats = query.shape[1] // keys.shape[1]
    keys = keys.repeat_interleave(num_repeats, dim=1)
    values = values.repeat_interleave(num_repeats, dim=1)
    scores = (query @ keys.transpose(-1, -2)).float() * scoring.scale
    scores = torch.tanh(scores / scoring.softcap) * scoring.softcap
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1).to(values.dtype) @ values


def _heads_first(rows: torch.Tensor) -> torch.Tensor:
    return rows.transpose(0, 1)[None]


def _padded(gathered: torch.Tensor, segment: Segment, padded_end: int) -> torch.Tensor:
    written = gathered[segment.first_gathered : segment.first_gathered + segment.end]
    return functional.pad(written, (0, 0, 0, 0, 0, padded_end - segment.end))
