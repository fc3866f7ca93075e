import pytest

from services.core.rate import WINDOW_S, EventRate


def test_a_rate_counts_what_happened_lately():
    rate = EventRate()
    for idx in range(40):
        rate.add(idx * 0.25)
    assert rate.per_s(10.0) == pytest.approx(4.0)
    assert rate.per_s(10.0 + WINDOW_S + 1) == 0.0


def test_one_event_a_moment_ago_is_not_a_high_rate():
    rate = EventRate()
    rate.add(5.0)
    assert rate.per_s(5.001) == 1.0
