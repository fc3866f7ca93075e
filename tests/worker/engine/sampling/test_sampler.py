from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from services.core.sampling import SamplingParams
from worker.engine.sampling.draw import uniform
from worker.engine.sampling.row import SampleRow
from worker.engine.sampling.sampler import sample

EOS = frozenset({0})
VOCAB_SIZE = 50


def _logits(num_rows: int = 1, seed: int = 3) -> torch.Tensor:
    return torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(seed)) * 2


def _draws(params: SamplingParams, num_draws: int = 3000) -> Counter[int | None]:
    rows = [SampleRow(params, position) for position in range(num_draws)]
    return Counter(sample(_logits().expand(num_draws, -1), rows, EOS))


def test_zero_temperature_takes_the_likeliest():
    logits = _logits(4)
    rows = [SampleRow(SamplingParams(temperature=0), 0)] * 4
    assert sample(logits, rows, EOS) == logits.argmax(dim=-1).tolist()


def test_draws_follow_the_softmax():
    draws = _draws(SamplingParams(seed=1, temperature=0.8), 20_000)
    probs = (_logits()[0] / 0.8).softmax(dim=-1)
    for token_id, prob in enumerate(probs.tolist()):
        assert draws[token_id] / 20_000 == pytest.approx(prob, abs=0.015)


def test_top_k_keeps_the_k_likeliest():
    kept = set(_logits()[0].topk(3).indices.tolist())
    assert set(_draws(SamplingParams(seed=1, top_k=3))) == kept


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    probs, order = _logits()[0].softmax(dim=-1).sort(descending=True)
    num_kept = int((probs.cumsum(0) < 0.6).sum()) + 1
    assert set(_draws(SamplingParams(seed=1, top_p=0.6))) == set(order[:num_kept].tolist())


def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest():
    probs = _logits()[0].softmax(dim=-1)
    kept = {i for i, p in enumerate(probs.tolist()) if p >= 0.3 * float(probs.max())}
    assert set(_draws(SamplingParams(seed=1, min_p=0.3))) == kept


def test_a_tiny_top_p_is_greedy():
    assert set(_draws(SamplingParams(seed=1, top_p=1e-6), 50)) == {int(_logits().argmax())}


def test_ends_are_banned_until_min_tokens():
    logits = torch.zeros(1, VOCAB_SIZE)
    logits[0, 0], logits[0, 7], logits[0, 9] = 9.0, 8.0, 7.0
    params = SamplingParams(temperature=0, min_tokens=2, stop_token_ids=(7,))
    assert sample(logits, [SampleRow(params, 1)], EOS) == [9]
    assert sample(logits, [SampleRow(params, 2)], EOS) == [0]


def test_an_ignored_eos_is_not_banned():
    logits = torch.zeros(1, VOCAB_SIZE)
    logits[0, 0] = 9.0
    params = SamplingParams(temperature=0, min_tokens=2, ignore_eos=True)
    assert sample(logits, [SampleRow(params, 0)], EOS) == [0]


def test_a_row_does_not_depend_on_its_mates():
    logits = _logits(6)
    mine = SampleRow(SamplingParams(seed=5, temperature=1.3), 4)
    mates = [SampleRow(SamplingParams(seed=i, top_k=i, top_p=0.5 + i / 20), i) for i in range(1, 6)]
    alone = sample(logits[:1], [mine], EOS)
    assert sample(logits, [mine, *mates], EOS)[0] == alone[0]
    for i, mate in enumerate(mates, start=1):
        assert sample(logits[i : i + 1], [mate], EOS) == [sample(logits, [mine, *mates], EOS)[i]]


def test_a_seed_gives_the_same_draws_again():
    params = SamplingParams(seed=11)
    assert _draws(params, 200) == _draws(params, 200)
    assert _draws(params, 200) != _draws(replace(params, seed=12), 200)


def test_noise_is_even():
    draws = [uniform(3, position) for position in range(4000)]
    assert 0 <= min(draws) < max(draws) < 1
    assert sum(draws) / 4000 == pytest.approx(0.5, abs=0.02)


def test_noise_never_changes():
    # Written down: another release must resume what this one began.
    assert uniform(42, 0) == 0.13283635254154835
    assert uniform(-1, 7) != uniform(1, 7)


def test_a_row_that_is_not_finite_gives_no_token():
    logits = _logits(3)
    logits[1, 4] = float("nan")
    logits[2] = float("-inf")
    rows = [SampleRow(SamplingParams(seed=1), 0)] * 3
    chosen = sample(logits, rows, EOS)
    assert chosen[0] is not None
    assert chosen[1:] == [None, None]


def test_the_logits_are_left_as_they_are():
    logits = _logits(1)
    before = logits.clone()
    params = SamplingParams(seed=1, min_tokens=5, top_k=2, logit_bias=((3, 1.0),))
    sample(logits, [SampleRow(params, 0)], EOS)
    assert torch.equal(logits, before)


def test_a_row_that_is_steered_leaves_its_mates_alone():
    logits = _logits(3)
    plain = SampleRow(SamplingParams(seed=1), 0)
    best = int(logits[1].argmax())
    banned = SampleRow(SamplingParams(temperature=0, banned_token_ids=(best,)), 0)
    chosen = sample(logits, [plain, banned, plain], EOS)
    assert chosen[::2] == sample(logits[::2], [plain, plain], EOS)
    assert chosen[1] == int(logits[1].topk(2).indices[1])
