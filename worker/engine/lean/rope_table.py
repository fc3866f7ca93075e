"""Rotary position embedding: cosines and sines by position, and the turn itself."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from worker.engine.lean.rope import Rope


class RopeTables:
    """cos and sin of every position, for each kind of rotation that a model has."""

    def __init__(
        self, ropes: Iterable[Rope], num_positions: int, device: torch.device | None = None
    ) -> None:
        self._tables = {
            # Computed on the CPU, so that all devices turn by the same bits.
            rope: tuple(part.to(device) for part in _table(rope, num_positions))
            for rope in set(ropes)
        }

    def at(self, positions: torch.Tensor) -> dict[Rope, tuple[torch.Tensor, torch.Tensor]]:
        """Cosines and sines for some positions: (num_rows, 1, head_dim / 2) float32 each."""
        return {
            rope: (cos.index_select(0, positions), sin.index_select(0, positions))
            for rope, (cos, sin) in self._tables.items()
        }


def rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turns value i together with value i + head_dim / 2: (num_rows, num_heads, head_dim)."""
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def _table(rope: Rope, num_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    positions = torch.arange(num_positions, dtype=torch.float32)
    # In float32, as the models were trained.
    angles = torch.outer(positions, torch.tensor(rope.frequencies, dtype=torch.float32))[:, None]
    return angles.cos(), angles.sin()
