import pytest

from services.core.errors import InvalidRequest
from worker.bench.clock import StepClock
from worker.bench.engine import BenchEngine
from worker.engine.fake_engine import FakeEngine, FakeModel
from worker.engine.settings import EngineSettings


@pytest.fixture
def bench():
    engine, clock = FakeEngine(FakeModel(), EngineSettings()), StepClock()
    engine.start(clock)
    yield BenchEngine(engine, clock)
    engine.stop()


def test_a_batch_is_timed_step_by_step(bench: BenchEngine):
    prompts = [[1, 2, 3, 4 + idx] for idx in range(3)]
    figures = bench.carry_out({"do": "generate", "prompts": prompts, "max_tokens": 10})
    assert figures["num_output_tokens"] == 30
    decode = figures["decode"]
    assert decode["num_tokens"] == 3 * len(decode["step_s"]) > 0
    assert 0 < figures["first_token_s"] <= figures["wall_s"]


def test_each_step_says_what_it_computed(bench: BenchEngine):
    order = {"do": "steps", "prompts": [[1] * 600, [2] * 40], "max_tokens": [4, 6]}
    steps = bench.carry_out(order)["steps"]
    # The first step took 512 tokens of the first prompt and is left out: nothing came before it.
    first, *decodes = (step["work"] for step in steps)
    assert (first["num_prefill_tokens"], first["num_decodes"]) == (88 + 40, 0)
    assert first["num_prefill_pairs"] == 88 * (512 + 44) + 40 * 20
    assert [work["num_decodes"] for work in decodes] == [2, 2, 2, 1, 1]
    assert [work["num_decode_pairs"] for work in decodes[:2]] == [640, 642]
    assert all(step["seconds"] > 0 for step in steps)


def test_an_unknown_order_is_refused(bench: BenchEngine):
    with pytest.raises(InvalidRequest, match="allowed: generate, profile, steps, roofline"):
        bench.carry_out({"do": "dance"})
