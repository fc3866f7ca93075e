"""Paged attention against the textbook formula, in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from services.core.blocks import BlockLayout
from services.core.sampling import SamplingParams
from worker.engine.kv_pool import KvPool
from worker.engine.paged_attention import Scoring, paged_attention
from worker.engine.port import SequenceSpec
from worker.engine.sequence import LiveSequence
from worker.engine.step_layout import lay_out
from worker.engine.step_plan import SequenceSlice

HEADS, KV_HEADS, DIM, BLOCK = 6, 2, 16, 8
LAYOUT = BlockLayout(
    dtype="float32", num_layers=2, num_kv_heads=KV_HEADS, head_dim=DIM, block_size=BLOCK
)
SCORINGS = [
    Scoring(DIM**-0.5),
    Scoring(0.3),
    Scoring(DIM**-0.5, window=11),
    Scoring(DIM**-0.5, softcap=2.0),
    Scoring(DIM**-0.5, window=11, softcap=2.0),
]


class _Layer(nn.Module):
    layer_idx = 1


class Stream:
    """One sequence with random queries, keys and values for all its positions."""

    def __init__(self, seed: int, num_tokens: int, num_prompt: int, block_ids: list[int]) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.query = torch.randn(num_tokens, HEADS, DIM, generator=generator)
        self.key = torch.randn(num_tokens, KV_HEADS, DIM, generator=generator)
        self.value = torch.randn(num_tokens, KV_HEADS, DIM, generator=generator)
        spec = SequenceSpec(f"s{seed}", [0] * num_prompt, SamplingParams())
        self.seq = LiveSequence(spec, arrival_idx=0, root=b"", max_model_len=1000)
        self.seq.token_ids = [0] * num_tokens
        self.seq.block_table = block_ids

    def reference(self, scoring: Scoring) -> torch.Tensor:
        keys = self.key.double().repeat_interleave(HEADS // KV_HEADS, dim=1)
        values = self.value.double().repeat_interleave(HEADS // KV_HEADS, dim=1)
        scores = torch.einsum("qhd,khd->hqk", self.query.double(), keys) * scoring.scale
        if scoring.softcap is not None:
            scores = torch.tanh(scores / scoring.softcap) * scoring.softcap
        query_idx = torch.arange(len(keys))[:, None]
        key_idx = torch.arange(len(keys))[None, :]
        hidden = key_idx > query_idx
        if scoring.window is not None:
            hidden |= key_idx <= query_idx - scoring.window
        probs = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        return torch.einsum("hqk,khd->qhd", probs, values)


def _step(
    pool: KvPool, scoring: Scoring, *pieces: tuple[Stream, int, int, bool]
) -> list[torch.Tensor]:
    slices = [
        SequenceSlice(stream.seq, start, end - start, is_prefill=prefill, samples=False)
        for stream, start, end, prefill in pieces
    ]

    def packed(name: str) -> torch.Tensor:
        rows = torch.cat([getattr(stream, name)[start:end] for stream, start, end, _ in pieces])
        return rows.transpose(0, 1)[None]

    out, _ = paged_attention(
        _Layer(),
        packed("query"),
        packed("key"),
        packed("value"),
        None,
        kv_ctx=lay_out(slices, pool),
        scaling=scoring.scale,
        sliding_window=scoring.window,
        softcap=scoring.softcap,
    )
    return list(out[0].split([end - start for _, start, end, _ in pieces]))


def _pool() -> KvPool:
    pool = KvPool(LAYOUT, 64, torch.device("cpu"))
    # What earlier owners left behind must not be seen.
    pool.keys.fill_(float("nan"))
    pool.values.fill_(float("nan"))
    return pool


@pytest.mark.parametrize("scoring", SCORINGS)
def test_a_mixed_step_equals_the_formula(scoring: Scoring):
    pool = _pool()
    first = Stream(1, 90, 80, list(range(20, 32)))
    second = Stream(2, 40, 40, [3, 1, 2, 40, 41])
    (head,) = _step(pool, scoring, (first, 0, 80, True))
    (third,) = _step(pool, scoring, (second, 0, 13, True))
    expected = first.reference(scoring)
    torch.testing.assert_close(head.double(), expected[:80], atol=1e-5, rtol=1e-4)
    chunk, token = _step(pool, scoring, (second, 13, 40, True), (first, 80, 81, False))
    torch.testing.assert_close(token.double(), expected[80:81], atol=1e-5, rtol=1e-4)
    both = torch.cat([third, chunk]).double()
    torch.testing.assert_close(both, second.reference(scoring), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize(
    "cuts", [(0, 150), (0, 1, 150), (0, 7, 64, 65, 150), (0, 32, 96, 128, 150)]
)
def test_chunks_change_no_bit(scoring: Scoring, cuts: tuple[int, ...]):
    whole = Stream(5, 150, 150, list(range(19)))
    (expected,) = _step(_pool(), scoring, (whole, 0, 150, True))
    pool = _pool()
    other = Stream(6, 60, 60, list(range(30, 38)))
    parts = [
        _step(pool, scoring, (other, 0, 30, True), (whole, start, end, True))[1]
        for start, end in itertools.pairwise(cuts)
    ]
    assert torch.equal(torch.cat(parts), expected)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_mates_change_no_bit_of_a_decode(scoring: Scoring):
    stream = Stream(7, 50, 40, list(range(7)))
    mates = [Stream(8 + i, 60, 30 + i, list(range(10 + 8 * i, 18 + 8 * i))) for i in range(4)]
    pool = _pool()
    _step(pool, scoring, (stream, 0, 40, True))
    (alone,) = _step(pool, scoring, (stream, 40, 41, False))
    for mate in mates:
        _step(pool, scoring, (mate, 0, mate.seq.num_prompt, True))
    pieces = [(mate, mate.seq.num_prompt, mate.seq.num_prompt + 1, False) for mate in mates]
    together = _step(pool, scoring, *pieces, (stream, 40, 41, False))
    assert torch.equal(together[-1], alone)
