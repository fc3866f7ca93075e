"""When a real engine hands out its full blocks, and what it copies for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from services.core.request import FinishReason
from tests.worker.engine.listener import FakeListener, greedy
from tests.worker.engine.tiny_models import VOCAB_SIZE
from worker.engine.fake_engine import FakeEngine, FakeModel
from worker.engine.full_block import BlockState
from worker.engine.settings import EngineSettings
from worker.engine.torch_engine import TorchEngine

BLOCK = 8
SETTINGS = EngineSettings(
    dtype="fp32", path="lean", block_size=BLOCK, num_blocks=16, max_num_seqs=4, num_threads=1
)

ModelDir = Callable[[str], Path]


def prompt_of(num_tokens: int, first: int = 3) -> tuple[int, ...]:
    return tuple(3 + (first + 7 * idx) % (VOCAB_SIZE - 3) for idx in range(num_tokens))


@contextmanager
def running(
    make_dir: ModelDir, settings: EngineSettings = SETTINGS
) -> Iterator[tuple[TorchEngine, FakeListener]]:
    engine, listener = TorchEngine(make_dir("llama"), settings), FakeListener()
    engine.start(listener)
    yield engine, listener
    engine.stop()


def test_what_is_read_after_the_end_is_what_was_there(tiny_model_dir: ModelDir):
    with running(tiny_model_dir) as (engine, listener):
        engine.submit(greedy("a", prompt_of(40), 4))
        listener.wait_finished("a")
        at_once = listener.blocks
    with running(tiny_model_dir) as (engine, listener):
        listener.reads_at_once = False
        engine.submit(greedy("a", prompt_of(40), 4))
        listener.wait_finished("a")
        assert [block.payload() for block in listener.told] == at_once
        assert len(at_once) == 5


def test_a_block_whose_place_is_taken_can_still_be_read(tiny_model_dir: ModelDir):
    with running(tiny_model_dir) as (engine, listener):
        listener.reads_at_once = False
        engine.submit(greedy("a", prompt_of(40), 4))
        listener.wait_finished("a")
        told = list(listener.told)
        before = [block.payload() for block in told]
        # Takes every block of the pool.
        engine.submit(greedy("b", prompt_of(124, first=5), 4))
        listener.wait_finished("b")
        assert engine.num_missing_blocks([block.stub.block_hash for block in told]) == 5
        assert [block.payload() for block in told] == before


def test_blocks_that_were_sent_are_not_copied_when_they_are_evicted(tiny_model_dir: ModelDir):
    with running(tiny_model_dir) as (engine, listener):
        engine.submit(greedy("a", prompt_of(40), 4))
        listener.wait_finished("a")
        told = list(listener.told)
        engine.submit(greedy("b", prompt_of(124, first=5), 4))
        listener.wait_finished("b")
        assert {block.state for block in told} == {BlockState.SENT}
        assert [block.payload() for block in told] == [None] * 5
        assert not set(told) & set(listener.told[5:])


def test_an_evicted_block_that_nobody_took_gets_another_chance(tiny_model_dir: ModelDir):
    with running(tiny_model_dir) as (engine, listener):
        listener.reads_at_once = False
        engine.submit(greedy("a", prompt_of(40), 4))
        listener.wait_finished("a")
        refused = list(listener.told)
        contents = [block.payload() for block in refused]
        for block in refused:
            block.settle(BlockState.HERE)
        listener.told.clear()
        engine.submit(greedy("b", prompt_of(124, first=5), 4))
        listener.wait_finished("b")
        again = [block for block in listener.told if block in refused]
        # In the order of the chain, though it is evicted from its end.
        assert again == refused
        assert [block.payload() for block in again] == contents


def test_evicted_blocks_are_lost_when_there_is_no_room_for_them(tiny_model_dir: ModelDir):
    with running(tiny_model_dir) as (engine, listener):
        listener.reads_at_once = False
        engine.submit(greedy("a", prompt_of(40), 4))
        listener.wait_finished("a")
        refused = list(listener.told)
        # Room for two of the five.
        listener.room_bytes = 2 * refused[0].size_bytes
        for block in refused:
            block.settle(BlockState.HERE)
        listener.told.clear()
        engine.submit(greedy("b", prompt_of(124, first=5), 4))
        listener.wait_finished("b")
        taken = {block for block in refused if block in listener.told}
        assert len(taken) == 2
        assert all((block.payload() is not None) == (block in taken) for block in refused)


def test_a_preempted_sequence_hands_out_its_blocks_before_it_ends(tiny_model_dir: ModelDir):
    with running(tiny_model_dir, replace(SETTINGS, num_blocks=8)) as (engine, listener):
        listener.reads_at_once = False
        for idx in range(3):
            engine.submit(greedy(f"s{idx}", prompt_of(20, first=idx), 30))
        listener.wait_until(lambda: bool(listener.preempted()))
        assert listener.told
        assert not any(listener.finish_reason(f"s{idx}") for idx in range(3))
        listener.wait_finished("s0", "s1", "s2")
        assert all(block.payload() is not None for block in listener.told)


def test_a_failed_sequence_hands_out_nothing():
    engine, listener = FakeEngine(FakeModel(failing_token_id=666)), FakeListener()
    engine.start(listener)
    engine.submit(greedy("bad", (*range(1000, 1600), 666), 4))
    listener.wait_finished("bad")
    engine.stop()
    assert listener.finish_reason("bad") is FinishReason.ERROR
    assert listener.told == []


def test_int8_blocks_are_kept_with_their_scales(tiny_model_dir: ModelDir):
    with running(tiny_model_dir, replace(SETTINGS, kv_dtype="int8")) as (engine, listener):
        listener.reads_at_once = False
        engine.submit(greedy("a", prompt_of(40), 4))
        listener.wait_finished("a")
        for block in listener.told:
            payload = block.payload()
            assert payload is not None
            assert len(payload.data) == block.size_bytes
