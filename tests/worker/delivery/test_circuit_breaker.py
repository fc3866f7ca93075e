from __future__ import annotations

from worker.delivery.circuit_breaker import CircuitBreaker


def test_it_opens_after_failures_in_a_row_and_closes_with_time() -> None:
    now_s = [0.0]
    breaker = CircuitBreaker(max_failures=2, open_s=5, clock=lambda: now_s[0])
    breaker.failed()
    assert not breaker.is_open
    breaker.failed()
    assert breaker.is_open
    now_s[0] = 5.0
    assert not breaker.is_open


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = CircuitBreaker(max_failures=2, open_s=5)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert not breaker.is_open


def test_one_failure_after_it_closed_opens_it_again() -> None:
    now_s = [0.0]
    breaker = CircuitBreaker(max_failures=2, open_s=5, clock=lambda: now_s[0])
    breaker.failed()
    breaker.failed()
    now_s[0] = 6.0
    breaker.failed()
    assert breaker.is_open
