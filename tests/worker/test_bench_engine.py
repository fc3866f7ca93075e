import pytest

from services.core.errors import InvalidRequest
from worker.bench_clock import StepClock
from worker.bench_engine import BenchEngine
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


def test_an_unknown_order_is_refused(bench: BenchEngine):
    with pytest.raises(InvalidRequest, match="allowed: generate, profile, roofline"):
        bench.carry_out({"do": "dance"})
