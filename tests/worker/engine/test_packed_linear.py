from __future__ import annotations

import pytest
import torch
from torch import nn

from worker.engine.packed_linear import (
    PackedLinear,
    is_packing_available,
    pack_linears,
    stable_floor,
)

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]

needs_packing = pytest.mark.skipif(
    not is_packing_available(torch.bfloat16, CPU), reason="this CPU has no packed kernel"
)


@needs_packing
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 96), (192, 1536), (301, 77)])
@torch.inference_mode()
def test_a_row_has_the_same_bits_alone_and_among_others(dtype: torch.dtype, shape: tuple[int, int]):
    out_features, in_features = shape
    torch.manual_seed(1)
    linear = nn.Linear(in_features, out_features, dtype=dtype)
    packed = PackedLinear(linear, stable_floor(linear))
    rows = torch.randn(150, in_features, dtype=dtype)
    together = packed(rows)
    for num_rows in (1, 2, 3, 9, 40, 111):
        assert torch.equal(packed(rows[:num_rows]), together[:num_rows])
    assert torch.equal(packed(rows[77:78]), together[77:78])


@needs_packing
@pytest.mark.parametrize("dtype", DTYPES)
@torch.inference_mode()
def test_it_computes_what_linear_computes(dtype: torch.dtype):
    linear = nn.Linear(96, 64, dtype=dtype)
    rows = torch.randn(1, 5, 96, dtype=dtype)
    packed = PackedLinear(linear, 2)
    torch.testing.assert_close(packed(rows), linear(rows))
    assert packed(rows[:, :1]).shape == (1, 1, 64)


@needs_packing
@torch.inference_mode()
def test_a_tied_embedding_stays_intact():
    model = nn.ModuleDict({"embed": nn.Embedding(32, 16), "head": nn.Linear(16, 32, bias=False)})
    model["head"].weight = model["embed"].weight
    before = model["embed"].weight.clone()
    assert pack_linears(model) == 1
    assert torch.equal(model["embed"].weight, before)
    rows = torch.randn(3, 16)
    torch.testing.assert_close(model["head"](rows), rows @ before.T)


def test_a_subclass_is_left_alone():
    class Odd(nn.Linear):
        pass

    model = nn.Sequential(Odd(4, 4))
    assert pack_linears(model) == 0


def test_other_devices_are_not_packed():
    assert not is_packing_available(torch.bfloat16, torch.device("cuda"))
    assert not is_packing_available(torch.float16, CPU)
