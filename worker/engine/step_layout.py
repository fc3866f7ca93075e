"""Where the tokens of a step lie: in the packed rows, in the sequences, in the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from worker.engine.kv_pool import KvPool
from worker.engine.step_plan import SequenceSlice

TILE = 64
"""Prompt tokens that attend together. Tiles lie at fixed positions of the sequence and have a fixed
shape, so that a token's bits do not depend on how its prompt was cut into chunks."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of one slice.

    Attributes:
        first_row: its first row in the packed step.
        start: position of that row in its sequence.
        end: position after its last row; K/V before this is in the pool once the step has written.
        first_gathered: where its blocks begin in the step's gathered K/V.
    """

    first_row: int
    start: int
    end: int
    first_gathered: int

    @property
    def num_rows(self) -> int:
        """Tokens computed in this step."""
        return self.end - self.start


@dataclass(slots=True)
class StepLayout:
    """One step, as the attention sees it; handed through the model's forward as `kv_ctx`.

    Attributes:
        token_ids: (num_rows,) int64.
        positions: (num_rows,) int64, in the row's sequence.
        slots: (num_rows,) int64, where the row's K/V goes.
        block_ids: (num_gathered_blocks,) int64: block tables of all segments, one after the other.
        decodes: segments of one output token each.
        prefills: segments of prompt tokens.
        masks: additive masks by (tile start, window), shared by layers and segments.
    """

    pool: KvPool
    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    block_ids: torch.Tensor
    decodes: list[Segment]
    prefills: list[Segment]
    masks: dict[tuple[int, int | None], torch.Tensor] = field(
        default_factory=dict[tuple[int, int | None], torch.Tensor]
    )

    def tile_mask(self, tile_start: int, window: int | None) -> torch.Tensor:
        """Additive causal mask of the tile at tile_start: (TILE, tile_start + TILE)."""
        mask = self.masks.get((tile_start, window))
        if mask is None:
            keys = self.pool.keys
            query_idx = torch.arange(tile_start, tile_start + TILE, device=keys.device)[:, None]
            key_idx = torch.arange(tile_start + TILE, device=keys.device)[None, :]
            is_hidden = key_idx > query_idx
            if window is not None:
                is_hidden |= key_idx <= query_idx - window
            dtype = self.pool.compute_dtype
            mask = torch.zeros(is_hidden.shape, dtype=dtype, device=keys.device)
            mask.masked_fill_(is_hidden, float("-inf"))
            self.masks[tile_start, window] = mask
        return mask


def lay_out(slices: Sequence[SequenceSlice], pool: KvPool) -> StepLayout:
    """Packs slices one after the other, without padding."""
    block_size, device = pool.layout.block_size, pool.keys.device
    token_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    block_ids: list[int] = []
    decodes: list[Segment] = []
    prefills: list[Segment] = []
    for piece in slices:
        start, end = piece.start, piece.start + piece.num_tokens
        table = piece.seq.block_table
        first_row, first_gathered = len(token_ids), len(block_ids) * block_size
        if piece.is_prefill:
            prefills.append(Segment(first_row, start, end, first_gathered))
        else:
            # Each as if alone; all see the same blocks, as far as their own position.
            decodes.extend(
                Segment(first_row + p - start, p, p + 1, first_gathered) for p in range(start, end)
            )
        token_ids.extend(piece.token_ids)
        positions.extend(range(start, end))
        slots.extend(
            table[p // block_size] * block_size + p % block_size for p in range(start, end)
        )
        block_ids.extend(table[: -(-end // block_size)])
    return StepLayout(
        pool=pool,
        token_ids=torch.tensor(token_ids, device=device),
        positions=torch.tensor(positions, device=device),
        slots=torch.tensor(slots, device=device),
        block_ids=torch.tensor(block_ids, device=device),
        decodes=decodes,
        prefills=prefills,
    )
