"""Attention over the paged pool on a GPU, and the plain-torch reference that it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from worker.engine.lean.config import NotLean
from worker.engine.paged_attention import Scoring, attend

VARLEN_BLOCK_MULTIPLE = 256
"""torch's own FlashAttention 2 wants pages of a multiple of 256 tokens (flash_api.cpp)."""

MAX_HEAD_DIM = 256


@dataclass(frozen=True, slots=True)
class Queries:
    """Rows that attend in one call.

    Attributes:
        cu_lengths: (num_seqs + 1,) int32: where each sequence's rows begin.
        num_keys: (num_seqs,) int32: tokens that its last row sees, the row's own included.
        tables: (num_seqs, width) int32 block ids.
        max_rows: most rows of a sequence.
        max_keys: no sequence has more keys; may be larger than the largest.
    """

    cu_lengths: torch.Tensor
    num_keys: torch.Tensor
    tables: torch.Tensor
    max_rows: int
    max_keys: int


class PagedAttention(Protocol):
    """Causal attention of rows over their sequences' blocks."""

    def __call__(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        queries: Queries,
        scoring: Scoring,
    ) -> torch.Tensor:
        """Attends.

        Args:
            query: (num_rows, num_heads, head_dim).
            keys: (num_blocks, block_size, num_kv_heads, head_dim), one layer of the pool.
            values: like keys.
            queries: whose rows these are.
            scoring: how scores come about.

        Returns:
            Like query.
        """
        ...


def varlen_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    queries: Queries,
    scoring: Scoring,
) -> torch.Tensor:
    """PagedAttention by FlashAttention, through torch.

    num_splits is 1: the result of a sequence then does not depend on the others in the call, and
    more splits give wrong rows on paged K/V (pytorch issue 194167).
    """
    from torch.nn.attention.varlen import varlen_attn

    # (-1, 0) is plainly causal; a window of n tokens reaches n - 1 to the left.
    window = (-1 if scoring.window is None else scoring.window - 1, 0)
    # Where blocks are found by the table this is read for its shape alone, but it must be there.
    cu_keys = torch.nn.functional.pad(queries.num_keys.cumsum(0, dtype=torch.int32), (1, 0))
    out = varlen_attn(
        query,
        keys,
        values,
        queries.cu_lengths,
        cu_keys,
        queries.max_rows,
        queries.max_keys,
        scale=scoring.scale,
        window_size=window,
        enable_gqa=query.shape[1] != keys.shape[2],
        seqused_k=queries.num_keys,
        block_table=queries.tables,
        num_splits=1,
    )
    assert isinstance(out, torch.Tensor)
    return out


def reference_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    queries: Queries,
    scoring: Scoring,
) -> torch.Tensor:
    """PagedAttention in plain torch, on any device; slow."""
    out = torch.empty_like(query)
    starts = queries.cu_lengths.tolist()
    for idx, num_keys in enumerate(queries.num_keys.tolist()):
        rows = slice(starts[idx], starts[idx + 1])
        num_rows = rows.stop - rows.start
        blocks = queries.tables[idx].long()
        seen_keys = keys.index_select(0, blocks).flatten(0, 1)[:num_keys]
        seen_values = values.index_select(0, blocks).flatten(0, 1)[:num_keys]
        positions = torch.arange(num_keys - num_rows, num_keys, device=query.device)[:, None]
        key_idx = torch.arange(num_keys, device=query.device)[None, :]
        hidden = key_idx > positions
        if scoring.window is not None:
            hidden |= key_idx <= positions - scoring.window
        mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device)
        mask.masked_fill_(hidden, float("-inf"))
        attended = attend(
            query[rows].transpose(0, 1)[None],
            seen_keys.transpose(0, 1)[None],
            seen_values.transpose(0, 1)[None],
            mask,
            scoring,
        )
        out[rows] = attended[0].transpose(0, 1)
    return out


def check_served(*, block_size: int, head_dim: int, dtype: torch.dtype, softcap: bool) -> None:
    """Raises NotLean where varlen_attention cannot serve, with what it lacks."""
    if block_size % VARLEN_BLOCK_MULTIPLE:
        raise NotLean(
            f"block_size is {block_size}; on a GPU a multiple of {VARLEN_BLOCK_MULTIPLE} is needed"
        )
    if head_dim > MAX_HEAD_DIM or head_dim % 8:
        raise NotLean(f"head_dim is {head_dim}; allowed: multiples of 8 up to {MAX_HEAD_DIM}")
    if dtype not in (torch.bfloat16, torch.float16):
        raise NotLean(f"dtype is {dtype}; on a GPU bf16 or fp16")
    if softcap:
        raise NotLean("scores with a soft cap")
