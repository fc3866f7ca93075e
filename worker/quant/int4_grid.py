"""Which four-bit grid a group of weights is rounded to."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from worker.quant.matrices import GROUP_SIZE, Int4Matrix, pack_codes, round_to_int8

MAX_STEP = 17
"""15 steps of 17 span the whole range of int8."""

_SHRINKS = tuple(1.0 - 0.04 * i for i in range(10))


@dataclass(frozen=True, slots=True)
class Grid:
    """Points base + step * 0..15 per row; steps, bases: (num_rows,) float32 holding integers."""

    steps: torch.Tensor
    bases: torch.Tensor

    def codes(self, values: torch.Tensor) -> torch.Tensor:
        """Nearest points' indices, 0..15; values: (num_rows,) or (num_rows, n)."""
        steps, bases = self._like(values)
        return ((values - bases) / steps).round_().clamp_(0, 15)

    def points(self, codes: torch.Tensor) -> torch.Tensor:
        """The points of some indices, held to the range of int8."""
        steps, bases = self._like(codes)
        return (bases + steps * codes).clamp_(-127, 127)

    def _like(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (-1, *[1] * (values.dim() - 1))
        return self.steps.view(shape), self.bases.view(shape)


def best_grid(values: torch.Tensor, importance: torch.Tensor) -> Grid:
    """The grid of least weighted squared error, by trying ranges from whole to narrow.

    Clipping the ends of a group pays when what lies between them gets a finer step.

    Args:
        values: (num_rows, group_size), in units of the row's int8 scale.
        importance: (group_size,), weight of a column's error.
    """
    low, high = values.amin(dim=1), values.amax(dim=1)
    middle, half = (low + high) / 2, (high - low) / 2
    best = Grid(torch.ones_like(low), low.round())
    best_error = torch.full_like(low, torch.inf)
    for shrink in _SHRINKS:
        exact = 2 * half * shrink / 15
        for rounded in (exact.floor(), exact.ceil()):
            steps = rounded.clamp(1, MAX_STEP)
            bases = (middle - 7.5 * steps).round().clamp(-127, 127)
            candidate = Grid(steps, bases)
            errors = candidate.points(candidate.codes(values)) - values
            error = (errors.square_() * importance).sum(dim=1)
            is_better = error < best_error
            best_error = torch.where(is_better, error, best_error)
            best = Grid(
                torch.where(is_better, steps, best.steps),
                torch.where(is_better, bases, best.bases),
            )
    return best


def round_to_int4(weight: torch.Tensor, energy: torch.Tensor) -> Int4Matrix:
    """Rounds every value to the nearest point of its group's grid.

    Args:
        weight: (num_rows, num_columns) float; num_columns a multiple of the group size.
        energy: (num_columns,), mean square of what each column is multiplied with: grids are
            chosen to be finest where that is large.
    """
    scales = round_to_int8(weight).scales
    values = weight.to(torch.float32) / scales[:, None]
    codes = torch.empty_like(values)
    grids: list[Grid] = []
    for start in range(0, values.shape[1], GROUP_SIZE):
        columns = slice(start, start + GROUP_SIZE)
        group = values[:, columns].contiguous()
        grid = best_grid(group, energy[columns])
        codes[:, columns] = grid.codes(group)
        grids.append(grid)
    return Int4Matrix(
        packed=pack_codes(codes),
        steps=torch.stack([grid.steps for grid in grids], dim=1).to(torch.uint8),
        bases=torch.stack([grid.bases for grid in grids], dim=1).to(torch.int8),
        scales=scales,
    )
