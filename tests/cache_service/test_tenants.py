"""What one tenant can learn of another: nothing."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cache_service.block_store import BlockStore
from cache_service.policies.choice import PolicyChoice, PolicyName, PolicySettings
from cache_service.store_rules import StoreLimits
from services.core.blocks import PUBLIC_TENANT


def work_of(call: Callable[[], Any]) -> tuple[Any, Counter[str]]:
    """What a call answers, and how often it calls which function."""
    calls: Counter[str] = Counter()

    def count(frame: Any, event: str, arg: Any) -> None:
        if event in ("call", "c_call"):
            calls[frame.f_code.co_qualname if event == "call" else str(arg)] += 1

    sys.setprofile(count)
    try:
        answer = call()
    finally:
        sys.setprofile(None)
    return answer, calls


def hashes(*numbers: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in numbers]


@pytest.mark.parametrize("policy", list(PolicyName))
def test_a_miss_is_the_same_work_whoever_has_the_text(fake_clock, make_block, policy: PolicyName):
    """The other tenant's chain has other hashes: the salted ones of the same text."""
    factory = PolicyChoice(policy, PolicySettings()).factory()
    asked, seen = hashes(1, 2, 3), []
    for others in ((), (11, 12, 13), range(11, 31)):
        store = BlockStore(StoreLimits(1 << 20), factory, fake_clock)
        parent = None
        for number in others:
            store.put(make_block(number, parent=parent, tenant="other"))
            parent = number
        store.lookup(asked, "layout", "mine")  # Its name is known to the metrics from now on.
        seen.append(work_of(lambda store=store: store.lookup(asked, "layout", "mine")))
    answers, calls = zip(*seen, strict=True)
    assert set(answers) == {0}
    assert calls[0].total() > 0
    # Addresses of bound builtins differ; how often each kind is called does not.
    assert len({tuple(sorted(each.values())) for each in calls}) == 1


@pytest.mark.parametrize("policy", list(PolicyName))
def test_a_use_of_a_public_block_by_anybody_keeps_it(fake_clock, make_block, policy: PolicyName):
    factory = PolicyChoice(policy, PolicySettings()).factory()
    store = BlockStore(StoreLimits(300, lease_s=0), factory, fake_clock)
    for number in (1, 2, 3):
        store.put(make_block(number, tenant=PUBLIC_TENANT))
        fake_clock.now_s += 1
    for tenant in ("a", "b", "c", "d"):
        assert store.lookup(hashes(1), "layout", tenant) == 1
        fake_clock.now_s += 1
    store.put(make_block(4, tenant=PUBLIC_TENANT))
    assert store.get(hashes(1)[0], "layout") is not None


def test_a_private_end_does_not_count_as_public(fake_clock, make_block):
    factory = PolicyChoice(PolicyName.LRU, PolicySettings()).factory()
    store = BlockStore(StoreLimits(1000), factory, fake_clock)
    store.put(make_block(1, tenant=PUBLIC_TENANT))
    store.put(make_block(2, parent=1, tenant="a"))
    assert store.lookup(hashes(1, 2), "layout", "a") == 2
    assert store.tenant_bytes == {PUBLIC_TENANT: 100, "a": 100}
