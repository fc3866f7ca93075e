import math

import pytest

from benchmarks.tuning.figures import Figures, together
from benchmarks.tuning.goal import BadGoal, Quantity, parse_goal


def figures(ttft_ms: list[float], tokens: int, seconds: float = 1.0) -> Figures:
    return Figures(
        seconds=seconds, output_tokens=tokens, samples={"ttft": ttft_ms}, memory_mib=100.0
    )


def test_a_goal_has_limits_and_an_objective():
    goal = parse_goal("p95 ttft < 300ms, memory<2GB,  max throughput ")
    assert [str(limit) for limit in goal.limits] == ["p95 ttft < 300 ms", "memory < 2,048 MiB"]
    assert goal.objective == Quantity("throughput")


def test_units_are_converted():
    assert parse_goal("ttft < 1.5s, max throughput").limits[0].value == 1500.0


def test_a_time_without_a_statistic_is_the_mean():
    assert str(parse_goal("min tpot").objective) == "mean tpot"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the goal is empty"),
        ("p95 ttft < 300ms", "0 objectives; exactly one is needed"),
        ("max throughput, min tpot", "2 objectives"),
        ("p95 speed < 3ms, max throughput", "metric of 'p95 speed < 3ms' is 'speed'; allowed: tt"),
        ("p95 ttft < 300, max throughput", "unit of 'p95 ttft < 300' is ''; allowed: ms, s"),
        ("p100 ttft < 3ms, max throughput", "statistic of .* is 'p100'; allowed: mean, p1 to"),
        ("p95 ttft > 3ms, max throughput", "limits it on the good side"),
        ("p95 ttft < 0ms, max throughput", "is '0'; allowed: a number above 0"),
        ("p95 ttft < 1.2.3ms, max throughput", "is '1.2.3'; allowed: a number"),
        ("min throughput", "would make it worse; allowed: max throughput"),
        ("p95 throughput > 3, min ttft", "throughput is one number; it takes no 'p95'"),
        ("quickly, max throughput", "'quickly' is neither a limit nor an objective"),
        ("ttft < 3ms,, max throughput", "nothing between two commas"),
    ],
)
def test_a_bad_goal_is_told_what_is_allowed(text: str, why: str):
    with pytest.raises(BadGoal, match=why):
        parse_goal(text)


def test_excess_is_how_far_the_limits_are_missed():
    goal = parse_goal("p95 ttft < 100ms, max throughput")
    assert goal.excess(figures([90.0] * 20, 10)) == 0
    assert goal.excess(figures([150.0] * 20, 10)) == pytest.approx(0.5)
    assert goal.broken(figures([150.0], 10)) == ["p95 ttft is 150 ms, not < 100 ms"]


def test_gain_is_above_one_for_the_better_side_either_way():
    assert parse_goal("max throughput").gain(figures([1.0], 12), than=figures([1.0], 10)) == 1.2
    assert parse_goal("min ttft").gain(figures([1.0], 1), than=figures([2.0], 1)) == 2.0


def test_what_was_not_measured_is_as_bad_as_can_be():
    assert Figures().value(Quantity("ttft", 0.5)) == math.inf
    assert Figures().value(Quantity("throughput")) == 0.0


def test_windows_add_up():
    both = together([figures([1.0], 10, 1.0), figures([3.0], 30, 3.0)])
    assert both.value(Quantity("throughput")) == 10.0
    assert both.value(Quantity("ttft")) == 2.0
