from __future__ import annotations

from services.core.sampling import SamplingParams
from services.core.step_time import StepTimeModel, StepWork
from worker.engine.port import SequenceSpec
from worker.engine.sequence import LiveSequence
from worker.engine.speculation.lookup import PromptLookup
from worker.engine.speculation.speculator import MAX_DRAFTS, Speculator
from worker.engine.step_times import StepTimes


def _times(row_s: float) -> StepTimes:
    model, times = StepTimeModel(0.005, 0.0005, 0.0, row_s, 0.0), StepTimes()
    for i in range(32):
        work = StepWork(num_prefill_tokens=i % 5, num_decodes=i % 4)
        times.add(work, model.step_s(work))
    return times


def _sequence(token_ids: list[int], max_tokens: int = 100) -> LiveSequence:
    spec = SequenceSpec("s", token_ids, SamplingParams(max_tokens=max_tokens))
    seq = LiveSequence(spec, arrival_idx=0, root=b"", max_model_len=1000)
    seq.num_computed = len(token_ids) - 1
    return seq


def _go_on(speculator: Speculator, seq: LiveSequence, token_ids: list[int]) -> None:
    for token_id in token_ids:
        seq.append(token_id)
    seq.num_computed = len(seq.token_ids) - 1
    speculator.learn(seq, token_ids, num_drafted=0)


def test_a_sequence_goes_on_as_it_did_the_last_time():
    assert PromptLookup().guess([1, 2, 3, 4, 9, 1, 2, 3, 5, 6, 1, 2, 3], 4) == (5, 6, 1, 2)


def test_what_was_never_said_before_gives_no_guess():
    lookup = PromptLookup()
    assert lookup.guess([1, 2, 3, 4, 5], 4) == ()
    assert lookup.guess([1, 2], 4) == ()
    assert lookup.guess([1, 2, 3, 4, 5, 1, 2, 3], 2) == (4, 5)


def test_right_guesses_make_longer_drafts_and_wrong_ones_end_them():
    speculator = Speculator(_times(row_s=0.001))
    cycle = [1, 2, 3, 4, 5, 6, 7, 8]
    seq = _sequence(cycle * 3)
    lengths: list[int] = []
    for _ in range(6):
        speculator.propose([seq])
        lengths.append(len(seq.draft_token_ids))
        _go_on(speculator, seq, cycle)
    assert 0 < lengths[0] < lengths[-1]
    assert lengths == sorted(lengths)
    for surprise in range(50, 62):
        speculator.propose([seq])
        _go_on(speculator, seq, [surprise])
        _go_on(speculator, seq, [1, 2, 3])
    speculator.propose([seq])
    assert seq.draft_token_ids == ()


def test_rows_that_cost_as_much_as_a_step_are_not_spent_on_guesses():
    speculator = Speculator(_times(row_s=1.0))
    seq = _sequence([1, 2, 3, 4] * 5)
    speculator.propose([seq])
    assert seq.draft_token_ids == ()


def test_nothing_is_guessed_before_steps_were_measured():
    speculator = Speculator(StepTimes())
    seq = _sequence([1, 2, 3, 4] * 5)
    speculator.propose([seq])
    assert seq.draft_token_ids == ()


def test_no_draft_reaches_the_end_of_the_answer():
    speculator = Speculator(_times(row_s=0.0))
    seq = _sequence([1, 2, 3, 4] * 5, max_tokens=2)
    speculator.propose([seq])
    assert len(seq.draft_token_ids) == 1
    longer = _sequence([1, 2, 3, 4] * 5)
    Speculator(_times(row_s=0.0)).propose([longer])
    assert 0 < len(longer.draft_token_ids) <= MAX_DRAFTS
