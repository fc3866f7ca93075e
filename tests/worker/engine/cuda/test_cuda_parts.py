from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.core.blocks import BlockHash
from services.core.sampling import SamplingParams
from worker.engine.cuda.buckets import batch_buckets, bucket_of
from worker.engine.cuda.inputs import DecodeInputs, PoolShape, StepInputs
from worker.engine.cuda.linear import DECODE_GROUP, PREFILL_GROUP, GroupedLinear, RowKinds
from worker.engine.cuda.lookahead import is_that, prepare_next
from worker.engine.cuda.staging import Staging
from worker.engine.cuda.step_arrays import arrays_of
from worker.engine.port import SequenceSpec
from worker.engine.sequence import LiveSequence
from worker.engine.step_plan import SequenceSlice

CPU = torch.device("cpu")
BLOCK_SIZE = 4
POOL = PoolShape(block_size=BLOCK_SIZE, width=5, scratch_block=99)


def sequence(seq_id: str, num_tokens: int, table: list[int]) -> LiveSequence:
    spec = SequenceSpec(seq_id, list(range(100, 100 + num_tokens)), SamplingParams(max_tokens=9))
    seq = LiveSequence(spec, arrival_idx=0, root=BlockHash(b"r" * 16), max_model_len=20)
    seq.block_table = table
    return seq


def decode(seq: LiveSequence, start: int) -> SequenceSlice:
    return SequenceSlice(seq, start, 1, is_prefill=False, samples=True)


@given(st.integers(1, 300), st.data())
def test_a_bucket_holds_its_rows_and_is_the_smallest_that_does(max_rows: int, data: st.DataObject):
    buckets = batch_buckets(max_rows)
    assert list(buckets) == sorted(set(buckets))
    num_rows = data.draw(st.integers(1, max_rows))
    size = bucket_of(num_rows, buckets)
    assert size is not None
    assert size >= num_rows
    assert all(other < num_rows or other >= size for other in buckets)


def test_more_rows_than_the_largest_bucket_have_none():
    assert bucket_of(9, batch_buckets(8)) is None


def test_decodes_attend_alone_and_prefills_by_slice():
    first, second = sequence("a", 10, [7, 8, 9]), sequence("b", 6, [3, 4])
    arrays = arrays_of(
        [decode(first, 9), SequenceSlice(second, 2, 4, is_prefill=True, samples=True)], BLOCK_SIZE
    )
    assert arrays.decodes.token_ids == [109]
    assert arrays.decodes.slots == [9 * BLOCK_SIZE + 1]
    assert arrays.decodes.tables == [[7, 8, 9]]
    assert arrays.prefills.positions == [2, 3, 4, 5]
    assert arrays.prefills.slots == [3 * BLOCK_SIZE + 2, 3 * BLOCK_SIZE + 3, 16, 17]
    assert (arrays.prefills.lengths, arrays.prefills.ends) == ([4], [6])
    assert arrays.num_rows == 5


def test_output_tokens_of_one_slice_attend_one_by_one():
    seq = sequence("a", 10, [7, 8, 9])
    arrays = arrays_of([SequenceSlice(seq, 7, 3, is_prefill=False, samples=True)], BLOCK_SIZE)
    assert arrays.decodes.positions == [7, 8, 9]
    assert arrays.decodes.tables == [[7, 8], [7, 8, 9], [7, 8, 9]]


def test_the_next_step_is_known_but_for_its_ids():
    seq = sequence("a", 6, [7, 8])
    prepared = prepare_next([decode(seq, 5)], BLOCK_SIZE)
    assert prepared is not None
    assert prepared.rows.slots == [8 * BLOCK_SIZE + 2]
    seq.append(5)
    assert is_that(prepared, [decode(seq, 6)])


def test_a_step_that_needs_a_new_block_cannot_be_known():
    assert prepare_next([decode(sequence("a", 8, [7, 8]), 7)], BLOCK_SIZE) is None


def test_no_step_is_prepared_after_a_prefill():
    piece = SequenceSlice(sequence("a", 6, [7, 8]), 0, 6, is_prefill=True, samples=True)
    assert prepare_next([piece], BLOCK_SIZE) is None


@pytest.mark.parametrize("what", ["other sequence", "one more", "moved blocks", "later position"])
def test_another_step_is_not_taken_for_the_prepared_one(what: str):
    seq, other = sequence("a", 5, [7, 8]), sequence("b", 5, [1, 2])
    prepared = prepare_next([decode(seq, 4)], BLOCK_SIZE)
    assert prepared is not None
    steps = {
        "other sequence": [decode(other, 5)],
        "one more": [decode(seq, 5), decode(other, 5)],
        "moved blocks": [decode(sequence("a", 6, [7, 6]), 5)],
        "later position": [decode(seq, 6)],
    }
    assert not is_that(prepared, steps[what])


def test_staged_numbers_arrive_where_they_were_promised():
    staging = Staging(8, CPU)
    for round_idx in range(3):
        staging.clear()
        first, table = staging.add([1, round_idx]), staging.add_table([[5], []], 2, fill=9)
        staging.overwrite([4])
        staging.send()
        assert first.tolist() == [4, round_idx]
        assert table.tolist() == [[5, 9], [9, 9]]


def test_a_step_larger_than_its_buffer_is_refused():
    staging = Staging(2, CPU)
    with pytest.raises(ValueError, match="limit 2"):
        staging.add([1, 2, 3])


def test_a_bucket_is_filled_up_with_rows_of_the_scratch_block():
    inputs = DecodeInputs(4, POOL, CPU)
    rows = arrays_of([decode(sequence("a", 6, [7, 8]), 5)], BLOCK_SIZE).decodes
    inputs.lay_out(rows)
    inputs.send(rows.token_ids)
    step = inputs.step
    assert step.token_ids.tolist() == [105, 0, 0, 0]
    assert step.slots.tolist() == [8 * BLOCK_SIZE + 1, *[99 * BLOCK_SIZE] * 3]
    assert step.decodes is not None
    assert step.decodes.num_keys.tolist() == [6, 1, 1, 1]
    assert step.decodes.tables.tolist() == [[7, 8, 99, 99, 99], *[[99] * 5] * 3]


def test_a_mixed_step_has_its_decodes_first():
    inputs = StepInputs(max_rows=8, max_seqs=4, pool=POOL, device=CPU)
    first, second = sequence("a", 6, [7, 8]), sequence("b", 6, [3, 4])
    arrays = arrays_of(
        [decode(first, 5), SequenceSlice(second, 0, 5, is_prefill=True, samples=False)], BLOCK_SIZE
    )
    step = inputs.send(arrays)
    assert step.num_decode_rows == 1
    assert step.positions.tolist() == [5, 0, 1, 2, 3, 4]
    assert step.decodes is not None
    assert step.prefills is not None
    assert step.decodes.cu_lengths.tolist() == [0, 1]
    assert step.prefills.cu_lengths.tolist() == [0, 5]
    assert step.prefills.num_keys.tolist() == [5]


def test_rows_are_multiplied_in_fixed_groups(monkeypatch: pytest.MonkeyPatch):
    shapes: list[int] = []
    plain = torch.nn.functional.linear

    def noting(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        shapes.append(len(rows))
        return plain(rows, weight)

    monkeypatch.setattr("worker.engine.cuda.linear.functional.linear", noting)
    kinds = RowKinds()
    weight, rows = torch.randn(5, 16), torch.randn(DECODE_GROUP + 10, 16)
    linear = GroupedLinear(weight, torch.ones(5), kinds)
    kinds.num_decode_rows = DECODE_GROUP + 1
    torch.testing.assert_close(linear(rows), plain(rows, weight) + 1)
    assert shapes == [DECODE_GROUP, DECODE_GROUP, PREFILL_GROUP]
