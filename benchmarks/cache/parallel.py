"""Many replays of one trace, on all CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from benchmarks.cache.replay import Access, Replay, factories, replay
from cache_service.policies.choice import PolicySettings

# Heaviest first, so that no CPU is left alone with it at the end.
_LONGEST = "hybrid"


@dataclass(frozen=True, slots=True)
class Case:
    """One policy at one size.

    Attributes:
        size: share of the working set.
        capacity: blocks.
    """

    policy: str
    size: float
    capacity: int


class _Trace:
    """What each process replays; set once, when it starts."""

    accesses: Sequence[Access] = ()
    settings = PolicySettings()


def replay_all(
    accesses: Sequence[Access],
    settings: PolicySettings,
    cases: Sequence[Case],
    *,
    num_processes: int | None = None,
) -> Iterator[tuple[Case, Replay]]:
    """Results as they come.

    Args:
        accesses: the trace.
        settings: of the policies.
        cases: what to replay.
        num_processes: None takes one for each CPU; 1 works in this one.
    """
    num_processes = num_processes or os.cpu_count() or 1
    ordered = sorted(cases, key=lambda case: case.policy != _LONGEST)
    _set_trace(accesses, settings)
    if num_processes == 1:
        yield from map(_run, ordered)
        return
    with ProcessPoolExecutor(
        num_processes, initializer=_set_trace, initargs=(accesses, settings)
    ) as pool:
        yield from pool.map(_run, ordered)


def _set_trace(accesses: Sequence[Access], settings: PolicySettings) -> None:
    _Trace.accesses, _Trace.settings = accesses, settings


def _run(case: Case) -> tuple[Case, Replay]:
    new_policy = factories(_Trace.accesses, _Trace.settings, only=case.policy)[case.policy]
    return case, replay(_Trace.accesses, new_policy, case.capacity)
