"""The GPU's attention against the plain reference, on the same device and blocks."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch

from worker.engine.cuda.attention import Queries, reference_attention, varlen_attention
from worker.engine.paged_attention import Scoring

pytestmark = pytest.mark.gpu

BLOCK_SIZE = 256
NUM_BLOCKS = 24


def queries_of(lengths: list[int], ends: list[int], device: torch.device) -> Queries:
    """Each sequence has its own blocks, in falling order."""
    width = max(-(-end // BLOCK_SIZE) for end in ends)
    free = iter(range(NUM_BLOCKS - 1, -1, -1))
    tables = [[next(free) for _ in range(width)] for _ in lengths]
    return Queries(
        cu_lengths=torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device),
        num_keys=torch.tensor(ends, dtype=torch.int32, device=device),
        tables=torch.tensor(tables, dtype=torch.int32, device=device),
        max_rows=max(lengths),
        max_keys=width * BLOCK_SIZE,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim"), [(9, 3, 64), (8, 8, 128)])
@pytest.mark.parametrize(
    ("lengths", "ends"),
    [([1, 1, 1, 1], [1, 256, 257, 700]), ([5, 256, 300], [5, 300, 900])],
    ids=["decode", "prefill"],
)
def test_it_equals_the_reference(
    dtype: torch.dtype,
    window: int | None,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    lengths: list[int],
    ends: list[int],
    cuda: torch.device,
):
    torch.manual_seed(0)
    query = torch.randn(sum(lengths), num_heads, head_dim, dtype=dtype, device=cuda)
    shape = (NUM_BLOCKS, BLOCK_SIZE, num_kv_heads, head_dim)
    keys, values = (torch.randn(shape, dtype=dtype, device=cuda) for _ in range(2))
    queries = queries_of(lengths, ends, cuda)
    scoring = Scoring(head_dim**-0.5, window)
    found = varlen_attention(query, keys, values, queries, scoring)
    expected = reference_attention(query.float(), keys.float(), values.float(), queries, scoring)
    tolerance = 2e-2 if dtype is torch.bfloat16 else 4e-3
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


def test_a_sequence_has_the_same_bits_in_any_company(cuda: torch.device):
    torch.manual_seed(0)
    shape = (NUM_BLOCKS, BLOCK_SIZE, 3, 64)
    keys, values = (torch.randn(shape, dtype=torch.bfloat16, device=cuda) for _ in range(2))
    query = torch.randn(4, 9, 64, dtype=torch.bfloat16, device=cuda)
    scoring = Scoring(64**-0.5)
    together = queries_of([1, 1, 1, 1], [700, 10, 300, 513], cuda)
    expected = varlen_attention(query, keys, values, together, scoring)
    for idx in range(4):
        alone = Queries(
            cu_lengths=torch.tensor([0, 1], dtype=torch.int32, device=cuda),
            num_keys=together.num_keys[idx : idx + 1],
            tables=together.tables[idx : idx + 1].contiguous(),
            max_rows=1,
            max_keys=together.max_keys,
        )
        found = varlen_attention(query[idx : idx + 1], keys, values, alone, scoring)
        assert torch.equal(found[0], expected[idx])
