"""What changes single logits, against a plain reference."""

from __future__ import annotations

import math

import torch

from services.core.sampling import SamplingParams
from worker.engine.sampling.history import TokenHistory
from worker.engine.sampling.row import SampleRow
from worker.engine.sampling.steering import is_steered, steer

EOS = frozenset({0})
VOCAB_SIZE = 30
PROMPT = (3, 4, 4, 29)
ANSWER = (5, 4, 5, 5, 6)


def _scores(num_rows: int) -> torch.Tensor:
    return torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(4)) * 3


def _history(answer: tuple[int, ...] = ANSWER) -> TokenHistory:
    history = TokenHistory(PROMPT)
    for token_id in answer:
        history.add(token_id)
    return history


def _row(position: int = len(ANSWER), **fields: object) -> SampleRow:
    params = SamplingParams(**fields)  # type: ignore[arg-type]
    return SampleRow(params, position, _history() if params.penalizes else None)


def _plainly_steered(scores: list[float], row: SampleRow) -> list[float]:
    params, out = row.params, list(scores)
    banned = set(params.banned_token_ids)
    if row.position < params.min_tokens:
        banned |= EOS | set(params.stop_token_ids)
    for token_id in range(VOCAB_SIZE):
        if params.allowed_token_ids and token_id not in params.allowed_token_ids:
            out[token_id] = -math.inf
        if token_id in banned:
            out[token_id] = -math.inf
        out[token_id] += dict(params.logit_bias).get(token_id, 0.0)
        if token_id in {*PROMPT, *ANSWER}:
            penalty = params.repetition_penalty
            out[token_id] = (
                out[token_id] / penalty if out[token_id] > 0 else out[token_id] * penalty
            )
        count = ANSWER.count(token_id)
        out[token_id] -= params.frequency_penalty * count + params.presence_penalty * (count > 0)
    return out


ROWS = [
    _row(),
    _row(repetition_penalty=1.5),
    _row(presence_penalty=0.7),
    _row(frequency_penalty=-0.3, repetition_penalty=0.5),
    _row(logit_bias=((4, 5.0), (0, -100.0), (29, 0.25))),
    _row(allowed_token_ids=(1, 4, 7), logit_bias=((2, 100.0),)),
    _row(banned_token_ids=(5, 29), presence_penalty=2.0),
    _row(min_tokens=9, stop_token_ids=(6,)),
    _row(
        repetition_penalty=1.2,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logit_bias=((5, -1.0),),
        allowed_token_ids=(3, 4, 5, 6),
        banned_token_ids=(3,),
    ),
]


def test_all_rows_at_once_equal_a_plain_reference():
    scores = _scores(len(ROWS))
    expected = [_plainly_steered(row, ROWS[i]) for i, row in enumerate(scores.tolist())]
    steer(scores, ROWS, EOS)
    torch.testing.assert_close(scores, torch.tensor(expected))


def test_only_rows_that_ask_are_steered():
    assert [is_steered(row) for row in ROWS] == [False] + [True] * (len(ROWS) - 1)
    assert not is_steered(_row(min_tokens=5))


def test_a_row_is_steered_the_same_in_any_company():
    scores = _scores(len(ROWS))
    alone = [scores[i : i + 1].clone() for i in range(len(ROWS))]
    for row_scores, row in zip(alone, ROWS, strict=True):
        steer(row_scores, [row], EOS)
    steer(scores, ROWS, EOS)
    assert torch.equal(scores, torch.cat(alone))


def test_a_history_counts_the_answer_and_knows_the_prompt():
    history = _history()
    counts = dict(zip(history.token_ids.tolist(), history.answer_counts.tolist(), strict=True))
    assert counts == {3: 0, 4: 1, 29: 0, 5: 3, 6: 1}


def test_a_history_that_might_go_on_leaves_the_first_as_it_is():
    history = _history()
    longer = history.followed_by((5, 7))
    assert sorted(history.token_ids.tolist()) == [3, 4, 5, 6, 29]
    counts = dict(zip(longer.token_ids.tolist(), longer.answer_counts.tolist(), strict=True))
    assert counts == {3: 0, 4: 1, 29: 0, 5: 4, 6: 1, 7: 1}


def test_a_history_grows_with_a_long_answer():
    history = _history(tuple(range(20)) * 50)
    assert history.answer_counts.sum() == 1000
    assert len(history.token_ids) == 21
