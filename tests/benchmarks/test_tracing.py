"""The sum of what pairs of clusters did."""

import pytest

from benchmarks.tracing import Half, sum_up


def half(on: list[float], off: list[float], cpu_on: float) -> Half:
    cpu_ms = {"on": [cpu_on] * len(on), "off": [1.0] * len(off)}
    return Half({"on": on, "off": off}, cpu_ms)


def test_what_being_started_first_is_worth_cancels_out():
    first = half([110.0, 110.0, 110.0], [100.0, 100.0, 100.0], 1.25)
    second = half([100.0, 100.0, 100.0], [110.0, 110.0, 110.0], 0.8)
    found = sum_up([first, second])
    assert found["cost_share"] == pytest.approx(0, abs=1e-4)
    assert found["cpu_cost_share"] == pytest.approx(0, abs=1e-4)
    assert found["rounds"] == 6


def test_what_tracing_costs_is_said():
    found = sum_up([half([95.0, 60.0, 95.0], [100.0, 100.0, 100.0], 1.1)] * 2)
    assert found["cost_share"] == 0.05
    assert found["cpu_cost_share_of_pairs"] == [0.1, 0.1]
