from __future__ import annotations

import pytest
import torch

from worker.engine.sampling.logprobs import logprobs_of


def _logits(num_rows: int) -> torch.Tensor:
    return torch.randn(num_rows, 300, generator=torch.Generator().manual_seed(9)) * 2


def test_logprobs_equal_log_softmax():
    logits = _logits(70)
    token_ids = [(7 * i) % 300 for i in range(70)]
    found = logprobs_of(logits, token_ids, [i % 4 for i in range(70)])
    expected = logits.log_softmax(dim=-1)
    for i, entry in enumerate(found):
        assert entry.logprob == pytest.approx(float(expected[i, token_ids[i]]), abs=1e-6)
        values, ids = expected[i].sort(descending=True)
        assert entry.top_token_ids == tuple(ids[: i % 4].tolist())
        assert entry.top_logprobs == pytest.approx(values[: i % 4].tolist(), abs=1e-6)


def test_a_row_says_the_same_in_any_company():
    logits = _logits(9)
    together = logprobs_of(logits, [5] * 9, [3] * 9)
    assert together == [logprobs_of(logits[i : i + 1], [5], [3])[0] for i in range(9)]


def test_no_more_than_the_vocabulary_is_told():
    (entry,) = logprobs_of(_logits(1)[:, :5], [0], [20])
    assert len(entry.top_token_ids) == 5
