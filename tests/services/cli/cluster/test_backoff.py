from services.cli.cluster.backoff import Backoff


def test_each_death_in_a_row_doubles_the_wait_up_to_the_cap():
    backoff = Backoff(initial_s=1, cap_s=5, stable_after_s=60)
    assert [backoff.next_delay_s(ran_for_s=0) for _ in range(4)] == [1, 2, 4, 5]


def test_a_child_that_ran_long_enough_starts_over():
    backoff = Backoff(initial_s=1, cap_s=5, stable_after_s=60)
    backoff.next_delay_s(ran_for_s=0)
    backoff.next_delay_s(ran_for_s=0)
    assert backoff.next_delay_s(ran_for_s=60) == 1
    assert backoff.next_delay_s(ran_for_s=59) == 2
