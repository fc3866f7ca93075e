from collections.abc import Sequence

from benchmarks.overhead import OverheadPlan, Timing, load_prompts, measure_overhead
from services.core.percentile import percentile


class FakeSide:
    def __init__(self, name: str, log: list[str], *, ttft_s: float) -> None:
        self.name = name
        self.log = log
        self.ttft_s = ttft_s
        self.prompts: list[Sequence[str]] = []

    def run(self, prompts: Sequence[str], max_tokens: int) -> Sequence[Timing]:
        self.log.append(self.name)
        self.prompts.append(prompts)
        return [Timing(self.ttft_s, self.ttft_s * 2, 10, max_tokens) for _ in prompts]


def test_the_nearest_rank_is_a_value_that_was_measured():
    values = [4.0, 1.0, 3.0, 2.0]
    assert [percentile(values, share) for share in (0.01, 0.5, 0.75, 1)] == [1, 2, 3, 4]


def test_both_sides_are_asked_the_same_in_turn_and_each_goes_first_as_often():
    log: list[str] = []
    stack, engine = FakeSide("stack", log, ttft_s=0.3), FakeSide("engine", log, ttft_s=0.2)
    plan = OverheadPlan(num_rounds=1, concurrency=3, max_tokens=5)
    pauses: list[float] = []
    measure_overhead(stack, engine, plan, prompts=["a", "b"], pause=pauses.append)
    warm_up, first, second, batch = log[:2], log[2:4], log[4:6], log[6:]
    assert warm_up == first == batch == ["stack", "engine"]
    assert second == ["engine", "stack"]
    assert stack.prompts == engine.prompts
    assert len(stack.prompts[-1]) == 3
    assert len(pauses) == 6


def test_no_prompt_begins_like_another():
    side = FakeSide("s", [], ttft_s=0.1)
    plan = OverheadPlan(num_rounds=2, concurrency=4, max_tokens=5)
    measure_overhead(side, FakeSide("e", [], ttft_s=0.1), plan, prompts=["a"], pause=lambda _: None)
    prompts = [prompt for batch in side.prompts for prompt in batch]
    assert len(set(prompts)) == len(prompts) == 1 + 2 + 8


def test_figures_are_differences_and_ratios_of_pairs():
    plan = OverheadPlan(num_rounds=1, concurrency=2, max_tokens=8)
    figures = measure_overhead(
        FakeSide("stack", [], ttft_s=0.25),
        FakeSide("engine", [], ttft_s=0.2),
        plan,
        prompts=["a", "b"],
        pause=lambda _: None,
    )
    assert figures["added_ttft_ms_p50"] == 50
    assert figures["throughput_ratio_alone"] == 0.8
    assert figures["num_pairs"] == 2
    assert figures["num_prompts_of_other_length"] == 0


def test_the_prompts_are_many_and_differ_in_length():
    prompts = load_prompts()
    assert len(set(prompts)) >= 16
    assert max(map(len, prompts)) > 10 * min(map(len, prompts))
