"""However gateways grant, give back and die: no minute ever holds more than the limit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.quota.ledger import (
    WINDOW_S,
    Ledger,
    book,
    lease,
    seconds_until_free,
    seconds_until_full,
    settle,
)
from gateway.quota.share import Kind, Share

NAMES = ("one", "two", "three")


def exchange(ledger: Ledger, share: Share, name: str, now_s: float, need: int) -> Ledger:
    fresh = share.synchronise(ledger, name, now_s, need=need)
    share.written(fresh, name, now_s, need=need)
    return fresh


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(("grant", "sync", "die")),
            st.integers(1, 5),
            st.floats(0, 20),
        ),
        max_size=120,
    ),
)
def test_no_window_holds_more_than_the_limit(
    limit: int, steps: list[tuple[int, str, int, float]]
) -> None:
    now_s = 1000.0
    ledger = Ledger()
    shares = [Share(Kind.TOKENS, limit) for _ in NAMES]
    names = list(NAMES)
    granted: list[tuple[float, int]] = []
    for idx, action, units, pause_s in steps:
        now_s += pause_s
        if action == "die":
            # Started again it has another name: under its old one it would take over what it held,
            # and with it what it had granted since it last told.
            shares[idx], names[idx] = Share(Kind.TOKENS, limit), f"{names[idx]}+"
            continue
        if action == "sync":
            ledger = exchange(ledger, shares[idx], names[idx], now_s, 0)
            continue
        if not shares[idx].grant(units, now_s):
            ledger = exchange(ledger, shares[idx], names[idx], now_s, units)
            if not shares[idx].grant(units, now_s):
                continue
        granted.append((now_s, units))
        window = [held for at_s, held in granted if at_s > now_s - WINDOW_S]
        assert sum(window) <= limit


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=60))
def test_never_more_run_at_once_than_the_limit(limit: int, steps: list[tuple[int, bool]]) -> None:
    ledger = Ledger()
    shares = [Share(Kind.CONCURRENT, limit) for _ in range(2)]
    running = [0, 0]
    for step, (idx, enters) in enumerate(steps):
        now_s = 1000.0 + step / 10
        share = shares[idx]
        if not enters:
            if running[idx]:
                running[idx] -= 1
                share.give_back(1, now_s)
            continue
        if not share.grant(1, now_s):
            ledger = exchange(ledger, share, NAMES[idx], now_s, 1)
            if not share.grant(1, now_s):
                continue
        running[idx] += 1
        assert sum(running) <= limit


def test_a_single_gateway_may_use_the_whole_limit():
    share, ledger, num_granted = Share(Kind.REQUESTS, 100), Ledger(), 0
    for _ in range(300):
        if not share.grant(1, 1000.0):
            ledger = exchange(ledger, share, "one", 1000.0, 1)
            if not share.grant(1, 1000.0):
                break
        num_granted += 1
    assert num_granted == 100
    assert share.refused_for_s(1000.0) == WINDOW_S + 1


def test_what_was_not_used_may_be_used_by_others():
    one, two, ledger = Share(Kind.TOKENS, 100), Share(Kind.TOKENS, 100), Ledger()
    ledger = exchange(ledger, one, "one", 1000.0, 100)
    assert one.grant(100, 1000.0)
    ledger = exchange(ledger, two, "two", 1001.0, 40)
    assert not two.grant(40, 1001.0)
    one.give_back(60, 1000.0)
    ledger = exchange(ledger, one, "one", 1002.0, 0)
    ledger = exchange(ledger, two, "two", 1003.0, 40)
    assert two.grant(40, 1003.0)


def test_what_a_dead_gateway_held_counts_as_used_for_a_minute():
    ledger = settle(lease(Ledger(), "dead", 7, 1000), 1015)
    assert (ledger.num_taken, ledger.leases) == (7, {})
    assert settle(ledger, 1015 + WINDOW_S + 1).num_taken == 0


def test_waiting_times_name_when_enough_is_free():
    ledger = book(Ledger(), {1000: 5, 1010: 5})
    assert seconds_until_free(ledger, 10, 5, 1020) == 41
    assert seconds_until_free(ledger, 10, 6, 1020) == 51
    assert seconds_until_free(lease(Ledger(), "other", 9, 1000), 10, 2, 1000) == 1
    assert seconds_until_full(ledger, 1020) == 51
