"""Rounds a matrix to int4 so that its outputs change least, given what it is multiplied with.

Column by column: what rounding a column adds to the outputs is taken back by the columns that are
still free. Source: GPTQ, Frantar et al. 2022, with a grid per group found on the weights as they
are when the group begins.
"""

from __future__ import annotations

import torch

from worker.quant.int4_grid import best_grid
from worker.quant.matrices import GROUP_SIZE, Int4Matrix, pack_codes, round_to_int8

_DAMPING = 0.01
"""Share of the mean diagonal added to the Hessian: columns that calibration hardly excites."""


def gptq(weight: torch.Tensor, hessian: torch.Tensor) -> Int4Matrix:
    """Rounds a weight.

    Args:
        weight: (num_rows, num_columns) float; num_columns a multiple of the group size.
        hessian: (num_columns, num_columns) float32: inputs' transpose times inputs.
    """
    scales = round_to_int8(weight).scales
    rest = weight.to(torch.float32) / scales[:, None]
    inverse = _inverse_root(hessian)
    codes = torch.empty_like(rest)
    steps: list[torch.Tensor] = []
    bases: list[torch.Tensor] = []
    for start in range(0, rest.shape[1], GROUP_SIZE):
        end = start + GROUP_SIZE
        group = rest[:, start:end].clone()
        block = inverse[start:end, start:end]
        grid = best_grid(group, block.diagonal().reciprocal().square())
        errors = torch.empty_like(group)
        for i in range(GROUP_SIZE):
            column = group[:, i]
            code = grid.codes(column)
            codes[:, start + i] = code
            error = (column - grid.points(code)) / block[i, i]
            group[:, i:].addr_(error, block[i, i:], alpha=-1)
            errors[:, i] = error
        rest[:, end:].addmm_(errors, inverse[start:end, end:], alpha=-1)
        steps.append(grid.steps)
        bases.append(grid.bases)
    return Int4Matrix(
        packed=pack_codes(codes),
        steps=torch.stack(steps, dim=1).to(torch.uint8),
        bases=torch.stack(bases, dim=1).to(torch.int8),
        scales=scales,
    )


def round_to_int4(weight: torch.Tensor) -> Int4Matrix:
    """Rounds every value to the nearest point of its group's grid, whatever the inputs are."""
    scales = round_to_int8(weight).scales
    num_rows, num_columns = weight.shape
    values = (weight.to(torch.float32) / scales[:, None]).view(-1, GROUP_SIZE)
    grid = best_grid(values, torch.ones(GROUP_SIZE))
    return Int4Matrix(
        packed=pack_codes(grid.codes(values).view(num_rows, num_columns)),
        steps=grid.steps.view(num_rows, -1).to(torch.uint8),
        bases=grid.bases.view(num_rows, -1).to(torch.int8),
        scales=scales,
    )


def _inverse_root(hessian: torch.Tensor) -> torch.Tensor:
    """Upper Cholesky factor of the damped Hessian's inverse."""
    damped = hessian.to(torch.float64)
    diagonal = damped.diagonal()
    diagonal += _DAMPING * diagonal.mean() + torch.finfo(torch.float32).tiny
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).to(torch.float32)
