import json

from benchmarks.tuning.budget import TimeBudget
from benchmarks.tuning.goal import parse_goal
from benchmarks.tuning.report import as_json, as_markdown
from benchmarks.tuning.search import Outcome, Search
from benchmarks.tuning.workloads import WORKLOADS
from tests.benchmarks.tuning.fake_bench import FakeBench, StepsBudget

ANY = parse_goal("max throughput")


def search(
    bench: FakeBench, goal: str = "max throughput", steps: int = 40, precision: str = "int8"
) -> Outcome:
    return Search(parse_goal(goal), bench, StepsBudget(steps), num_cpus=2, precision=precision).run(
        {}
    )


def kept(outcome: Outcome) -> list[str]:
    return [step.candidate.move.name for step in outcome.steps if step.verdict.is_kept]


def test_it_keeps_what_gains_and_undoes_the_rest():
    outcome = search(FakeBench())
    assert outcome.best == {"quantization": "int8", "itl_target_ms": "0.0"}
    assert outcome.ended == "nothing is left to try"
    assert outcome.verdict is not None
    assert outcome.verdict.gain == 1.8


def test_one_setting_changes_at_a_time_and_the_reason_is_told():
    outcome = search(FakeBench())
    assert {len(step.candidate.changes) for step in outcome.steps} <= {1, 2}
    assert outcome.steps[0].candidate.move.name == "int8 weights"
    assert "of the workers' time" in outcome.steps[0].diagnosis.why


def test_moves_against_the_bottleneck_come_before_others():
    called = [step.candidate.is_called_for for step in search(FakeBench()).steps[:4]]
    assert called == [True] * 4


def test_a_gain_that_misses_the_goal_is_undone():
    bench = FakeBench(lambda settings: 500.0 if settings.get("quantization") else 100.0)
    outcome = search(bench, "p95 ttft < 300ms, max throughput")
    assert "quantization" not in outcome.best
    assert "it misses the goal: p95 ttft is 500 ms" in outcome.steps[0].verdict.why


def test_while_the_goal_is_missed_what_comes_nearer_is_kept():
    bench = FakeBench(lambda settings: 250.0 if settings.get("max_batched_tokens") else 600.0)
    outcome = search(bench, "p95 ttft < 300ms, max throughput")
    assert outcome.best["max_batched_tokens"] == "1024"
    assert outcome.goal.excess(outcome.best_figures) == 0


def test_exact_numbers_can_be_asked_for():
    assert search(FakeBench(), precision="kept").best == {"itl_target_ms": "0.0"}


def test_settings_that_do_not_run_are_a_step_that_is_undone():
    outcome = search(FakeBench(broken=["speculation"]))
    failed = next(s for s in outcome.steps if "speculation" in s.candidate.changes)
    assert failed.verdict.why == "it does not run: it said no"
    assert outcome.best["quantization"] == "int8"


def test_nothing_is_tried_twice_and_only_what_is_used_stays():
    bench = FakeBench()
    outcome = search(bench)
    after = [frozenset(step.after.items()) for step in outcome.steps]
    assert len(after) == len(set(after))
    assert bench.alive == [{}, outcome.best]


def test_without_time_the_default_stays():
    outcome = search(FakeBench(), steps=0)
    assert outcome.best == {}
    assert outcome.verdict is None
    assert outcome.ended == "the time is up"


def test_the_last_comparison_has_its_share_of_the_time():
    times_s = iter((0.0, 0.0, 30.0, 60.0))
    budget = TimeBudget(100.0, lambda: next(times_s))
    assert [budget.fits_another() for _ in range(3)] == [True, True, False]


def test_the_report_tells_each_step_and_what_it_gives_up():
    outcome = search(FakeBench(), steps=3)
    page = as_markdown([(WORKLOADS["chat"], outcome)], {"machine": "this one"})
    assert "| 1 | memory |" in page
    assert "(quantization none -> int8) | kept |" in page
    assert "| undone |" in page
    assert "What it gives up" in page
    assert json.loads(json.dumps(as_json(WORKLOADS["chat"], outcome)))["settings"] == outcome.best
