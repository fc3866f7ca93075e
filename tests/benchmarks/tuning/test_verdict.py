from benchmarks.tuning.figures import Figures
from benchmarks.tuning.goal import parse_goal
from benchmarks.tuning.verdict import Pair, is_clear, judge

GOAL = parse_goal("max throughput")


def pairs(*ratios: float, errors: int = 0) -> list[Pair]:
    return [
        Pair(
            Figures(seconds=1.0, output_tokens=1_000),
            Figures(seconds=1.0, output_tokens=round(1_000 * ratio), errors=errors),
        )
        for ratio in ratios
    ]


def test_a_clear_difference_needs_two_pairs_a_small_one_four():
    assert not is_clear(GOAL, pairs(1.5))
    assert is_clear(GOAL, pairs(1.5, 1.4))
    assert is_clear(GOAL, pairs(0.9, 0.8))
    assert not is_clear(GOAL, pairs(1.05, 1.04, 1.06))
    assert is_clear(GOAL, pairs(1.05, 1.04, 1.06, 1.05))


def test_one_disturbed_window_does_not_decide():
    assert judge(GOAL, pairs(1.10, 1.08, 0.5, 1.09)).is_kept
    assert not judge(GOAL, pairs(0.99, 1.0, 3.0, 1.0)).is_kept


def test_pairs_that_disagree_are_no_gain():
    verdict = judge(GOAL, pairs(1.3, 0.8, 1.3, 0.9))
    assert not verdict.is_kept
    assert "disagree" in verdict.why


def test_a_gain_too_small_to_matter_is_undone():
    assert not judge(GOAL, pairs(1.02, 1.02, 1.01, 1.02)).is_kept


def test_failed_requests_outweigh_any_gain():
    verdict = judge(GOAL, pairs(2.0, 2.0, errors=1))
    assert not verdict.is_kept
    assert verdict.why == "2 requests failed, 0 before"
