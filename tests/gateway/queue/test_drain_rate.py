from gateway.queue.drain_rate import MAX_RETRY_AFTER_S, UNKNOWN_RETRY_AFTER_S, DrainRate


def test_unknown_rate_gives_a_fixed_answer():
    assert DrainRate().retry_after_s(0.0, num_waiting=100) == UNKNOWN_RETRY_AFTER_S


def test_a_slower_system_asks_for_more_patience():
    fast, slow = DrainRate(), DrainRate()
    for idx in range(100):
        fast.add(idx * 0.1)
    for idx in range(10):
        slow.add(float(idx))
    assert fast.retry_after_s(10.0, num_waiting=400) == 4
    assert slow.retry_after_s(10.0, num_waiting=400) == 40


def test_the_answer_is_bounded():
    rate = DrainRate()
    rate.add(0.0)
    assert rate.retry_after_s(10.0, num_waiting=10_000) == MAX_RETRY_AFTER_S
    assert rate.retry_after_s(10.0, num_waiting=0) == 1


def test_old_completions_are_forgotten():
    rate = DrainRate()
    rate.add(0.0)
    assert rate.retry_after_s(100.0, num_waiting=1) == UNKNOWN_RETRY_AFTER_S
