from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.core.block_names import BlockNames, BlockNaming
from services.core.blocks import PUBLIC_TENANT, block_hashes, chain_root
from services.core.request import FinishReason
from services.core.sampling import SamplingParams
from services.runtime.checksum import is_intact
from tests.worker.engine.listener import FakeListener, greedy
from worker.engine.fake_engine import FakeEngine, FakeModel, fake_token
from worker.engine.port import SequenceSpec
from worker.engine.settings import EngineSettings

MODEL = FakeModel(vocab_size=1000)
PROMPT = tuple(range(10, 90))


class Rig:
    def __init__(self) -> None:
        self.engines: list[FakeEngine] = []

    def __call__(
        self, model: FakeModel = MODEL, settings: EngineSettings | None = None
    ) -> tuple[FakeEngine, FakeListener]:
        engine, listener = FakeEngine(model, settings), FakeListener()
        engine.start(listener)
        self.engines.append(engine)
        return engine, listener


@pytest.fixture
def start() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for engine in rig.engines:
        engine.stop()


def _expected(prompt: tuple[int, ...], num_tokens: int, seed: int | None = None) -> list[int]:
    return [fake_token(MODEL, prompt, seed, position) for position in range(num_tokens)]


def test_tokens_are_a_function_of_prompt_and_position(start: Rig):
    engine, listener = start()
    engine.submit(greedy("a", PROMPT, 20))
    listener.wait_finished("a")
    assert listener.token_ids("a") == _expected(PROMPT, 20)
    assert listener.finish_reason("a") is FinishReason.LENGTH


def test_every_output_says_its_position(start: Rig):
    engine, listener = start()
    engine.submit(greedy("a", PROMPT, 5))
    listener.wait_finished("a")
    assert [output.first_position for output in listener.outputs("a")] == [0, 1, 2, 3, 4]


def test_a_seed_changes_the_tokens(start: Rig):
    engine, listener = start()
    for seed in (1, 2):
        sampling = SamplingParams(max_tokens=8, seed=seed)
        engine.submit(SequenceSpec(f"s{seed}", PROMPT, sampling))
    listener.wait_finished("s1", "s2")
    assert listener.token_ids("s1") == _expected(PROMPT, 8, seed=1)
    assert listener.token_ids("s1") != listener.token_ids("s2")


def test_an_end_of_sequence_token_ends_the_answer(start: Rig):
    engine, listener = start(FakeModel(eos_after=3))
    engine.submit(SequenceSpec("a", PROMPT, SamplingParams(max_tokens=9, temperature=0)))
    listener.wait_finished("a")
    assert listener.finish_reason("a") is FinishReason.STOP
    assert len(listener.token_ids("a")) == 4


def test_a_stop_token_id_ends_the_answer(start: Rig):
    engine, listener = start()
    stop = _expected(PROMPT, 3)[2]
    sampling = SamplingParams(max_tokens=9, temperature=0, stop_token_ids=(stop,))
    engine.submit(SequenceSpec("a", PROMPT, sampling))
    listener.wait_finished("a")
    assert listener.finish_reason("a") is FinishReason.STOP
    assert listener.token_ids("a")[-1] == stop


def test_a_resumed_sequence_reports_only_what_is_new(start: Rig):
    engine, listener = start()
    delivered = tuple(_expected(PROMPT, 7))
    engine.submit(greedy("a", PROMPT, 12, delivered_token_ids=delivered))
    listener.wait_finished("a")
    assert listener.token_ids("a") == _expected(PROMPT, 12)[7:]
    assert listener.outputs("a")[0].first_position == 7


def test_a_sequence_that_was_complete_ends_without_a_token(start: Rig):
    engine, listener = start()
    delivered = tuple(_expected(PROMPT, 4))
    engine.submit(greedy("a", PROMPT, 4, delivered_token_ids=delivered))
    listener.wait_finished("a")
    assert listener.token_ids("a") == []
    assert listener.finish_reason("a") is FinishReason.LENGTH


def test_a_cancel_frees_the_blocks_and_is_reported(start: Rig):
    engine, listener = start(FakeModel(step_time_s=0.002))
    engine.submit(greedy("a", PROMPT, 5000))
    listener.wait_until(lambda: bool(listener.outputs("a")))
    engine.cancel("a")
    listener.wait_finished("a")
    assert listener.finish_reason("a") is FinishReason.CANCELLED
    assert engine.load().num_free_blocks == engine.load().num_blocks


def test_a_queued_sequence_can_be_cancelled(start: Rig):
    settings = EngineSettings(max_num_seqs=1)
    engine, listener = start(FakeModel(step_time_s=0.002), settings)
    engine.submit(greedy("running", PROMPT, 5000))
    engine.submit(greedy("queued", PROMPT, 5))
    listener.wait_until(lambda: bool(listener.outputs("running")))
    assert engine.load().num_waiting == 1
    engine.cancel("queued")
    listener.wait_finished("queued")
    assert listener.token_ids("queued") == []


def test_an_unknown_cancel_is_ignored(start: Rig):
    engine, listener = start()
    engine.cancel("nobody")
    engine.submit(greedy("a", PROMPT, 2))
    listener.wait_finished("a")


@pytest.mark.parametrize(
    ("prompt", "sampling", "told"),
    [
        ((), SamplingParams(max_tokens=1), "prompt is empty"),
        ((1, 1000), SamplingParams(max_tokens=1), "token id is 1000"),
        ((1,) * 9000, SamplingParams(max_tokens=1), "prompt has 9000 tokens"),
        ((1,), SamplingParams(max_tokens=1, temperature=-1), "temperature is -1"),
    ],
)
def test_an_impossible_sequence_ends_with_an_error(
    start: Rig, prompt: tuple[int, ...], sampling: SamplingParams, told: str
):
    engine, listener = start()
    engine.submit(SequenceSpec("a", prompt, sampling))
    listener.wait_finished("a")
    assert listener.finish_reason("a") is FinishReason.ERROR
    assert told in listener.outputs("a")[0].error_message


def test_a_failing_sequence_fails_alone(start: Rig):
    engine, listener = start(FakeModel(vocab_size=1000, failing_token_id=666))
    engine.submit(greedy("bad", (*PROMPT, 666), 4))
    engine.submit(greedy("good", PROMPT, 4))
    listener.wait_finished("bad", "good")
    assert listener.finish_reason("bad") is FinishReason.ERROR
    assert listener.token_ids("good") == _expected(PROMPT, 4)
    assert engine.load().num_free_blocks == engine.load().num_blocks


def test_preemption_does_not_change_the_tokens(start: Rig):
    engine, listener = start(settings=EngineSettings(num_blocks=8, max_num_seqs=4))
    prompts = {f"s{i}": tuple(range(i, i + 40)) for i in range(4)}
    for seq_id, prompt in prompts.items():
        engine.submit(greedy(seq_id, prompt, 60))
    listener.wait_finished(*prompts)
    assert listener.preempted()
    for seq_id, prompt in prompts.items():
        assert listener.token_ids(seq_id) == _expected(prompt, 60)


def test_a_longer_turn_reuses_the_blocks_of_the_one_before(start: Rig):
    engine, listener = start()
    engine.submit(greedy("turn1", PROMPT, 30))
    listener.wait_finished("turn1")
    second = (*PROMPT, *listener.token_ids("turn1"), 5, 6, 7)
    engine.submit(greedy("turn2", second, 4))
    listener.wait_finished("turn2")
    assert listener.cached_tokens("turn1") == 0
    assert listener.cached_tokens("turn2") == 96


def test_tenants_do_not_share_blocks(start: Rig):
    engine, listener = start()
    for tenant in ("a", "b"):
        engine.submit(greedy(tenant, PROMPT, 2, tenant=tenant))
        listener.wait_finished(tenant)
    assert listener.cached_tokens("b") == 0


def test_tenants_share_the_full_blocks_of_a_public_prompt_and_no_more(start: Rig):
    engine, listener = start()
    layout = engine.layout
    # Two full blocks and a part of the third, of which all prompts have more.
    naming = BlockNaming(b"secret", (PROMPT[:70],))
    engine.names = BlockNames(engine.model_revision, layout.text(), layout.block_size, naming)
    long = (*PROMPT, *range(30))
    for tenant in ("a", "b"):
        engine.submit(greedy(tenant, long, 2, tenant=tenant))
        listener.wait_finished(tenant)
    engine.submit(greedy("again", long, 2, tenant="a"))
    listener.wait_finished("again")
    assert listener.cached_tokens("a") == 0
    assert listener.cached_tokens("b") == 64
    assert listener.cached_tokens("again") == 96
    assert [block.tenant for block in listener.blocks] == [PUBLIC_TENANT] * 2 + ["a", "b"]


def test_full_blocks_travel_to_another_engine(start: Rig):
    engine, listener = start()
    engine.submit(greedy("a", PROMPT, 2, tenant="t"))
    listener.wait_finished("a")
    assert len(listener.blocks) == 2
    assert all(is_intact(block) for block in listener.blocks)

    other, other_listener = start()
    root = chain_root(
        model_revision=other.model_revision, layout=other.layout.text(), adapter="", tenant="t"
    )
    hashes = block_hashes(root, PROMPT, other.layout.block_size)
    assert other.num_missing_blocks(hashes) == 2
    other.import_blocks(listener.blocks)
    other.submit(greedy("b", PROMPT, 2, tenant="t"))
    other_listener.wait_finished("b")
    assert other_listener.cached_tokens("b") == 64
    assert other.num_missing_blocks(hashes) == 0
    assert other_listener.blocks == []


def test_without_a_prefix_cache_every_prompt_is_computed_whole(start: Rig):
    engine, listener = start(settings=EngineSettings(prefix_cache=False))
    # Together as well: nobody waits for what another computes.
    for name in ("a", "b"):
        engine.submit(greedy(name, PROMPT, 2))
    listener.wait_finished("a", "b")
    engine.submit(greedy("c", PROMPT, 2))
    listener.wait_finished("c")
    assert [listener.cached_tokens(name) for name in "abc"] == [0, 0, 0]
    assert listener.token_ids("c") == _expected(PROMPT, 2)


def test_a_refused_block_hurts_nobody(start: Rig):
    engine, listener = start()
    engine.submit(greedy("a", PROMPT, 2))
    listener.wait_finished("a")
    torn = [replace(block, data=b"short") for block in listener.blocks]
    alien = [replace(block, layout="other") for block in listener.blocks]
    other, other_listener = start()
    other.import_blocks(torn)
    other.import_blocks(alien)
    other.submit(greedy("b", PROMPT, 2))
    other_listener.wait_finished("b")
    assert other_listener.cached_tokens("b") == 0
    assert other_listener.token_ids("b") == listener.token_ids("a")


def test_load_counts_what_is_not_taken_up_yet(start: Rig):
    engine, listener = start(FakeModel(step_time_s=0.005), EngineSettings(max_num_seqs=2))
    for i in range(3):
        engine.submit(greedy(f"s{i}", PROMPT, 5000))
    load = engine.load()
    assert load.num_running + load.num_waiting == 3
    listener.wait_until(lambda: bool(listener.outputs("s1")))
    load = engine.load()
    assert (load.num_running, load.num_waiting, load.max_requests) == (2, 1, 2)
    assert load.num_pending_prefill_tokens == len(PROMPT)


def test_an_idle_engine_is_not_stalled(start: Rig):
    engine, listener = start()
    engine.submit(greedy("a", PROMPT, 2))
    listener.wait_finished("a")
    while engine.seconds_since_progress() > 0:
        pass
    assert engine.seconds_since_progress() == 0


def test_stop_twice_is_safe(start: Rig):
    engine, _ = start()
    engine.stop()
    engine.stop()
