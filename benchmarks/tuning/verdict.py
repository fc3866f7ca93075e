"""Whether a change is kept, from pairs of windows measured in turn. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.tuning.figures import Figures, together
from benchmarks.tuning.goal import Goal

MIN_PAIRS = 2
MAX_PAIRS = 4
MIN_GAIN = 1.03
"""A smaller gain is not worth a setting that differs from the default."""

CLEAR_GAIN = 1.10
CLEAR_LOSS = 0.97
MIN_AGREEING = 0.75
"""Share of the pairs that must show the gain: one disturbed window shall not decide."""

NEARER = 0.95
"""While limits are missed, a change must bring them this much nearer."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two windows, one right after the other, of the same load."""

    current: Figures
    candidate: Figures


@dataclass(frozen=True, slots=True)
class Verdict:
    """Kept or undone, and why.

    Attributes:
        gain: the objective as a ratio, median of the pairs; above 1 is better.
        gains: of each pair.
    """

    is_kept: bool
    why: str
    gain: float
    gains: tuple[float, ...]


def is_clear(goal: Goal, pairs: Sequence[Pair]) -> bool:
    """Whether more pairs would hardly change the verdict."""
    if len(pairs) < MIN_PAIRS:
        return False
    if len(pairs) >= MAX_PAIRS:
        return True
    gains = _gains(goal, pairs)
    return min(gains) >= CLEAR_GAIN or max(gains) <= CLEAR_LOSS


def judge(goal: Goal, pairs: Sequence[Pair]) -> Verdict:
    """Limits first, then the objective.

    Args:
        goal: what shall be reached.
        pairs: at least one.
    """
    gains = _gains(goal, pairs)
    gain = statistics.median(gains)
    current = together(pair.current for pair in pairs)
    candidate = together(pair.candidate for pair in pairs)

    def verdict(is_kept: bool, why: str) -> Verdict:
        return Verdict(is_kept, why, gain, gains)

    if candidate.errors > current.errors:
        return verdict(False, f"{candidate.errors} requests failed, {current.errors} before")
    before, after = goal.excess(current), goal.excess(candidate)
    if after > 0 and before == 0:
        return verdict(False, "it misses the goal: " + "; ".join(goal.broken(candidate)))
    change = f"{goal.objective} {gain - 1:+.0%}"
    if before > 0:
        if after <= before * NEARER:
            nearer = "reaches the limits" if after == 0 else "comes nearer to the limits"
            return verdict(True, f"it {nearer}; {change}")
        return verdict(False, f"it comes no nearer to the limits; {change}")
    agreeing = sum(one > 1 for one in gains) / len(gains)
    if gain >= MIN_GAIN and agreeing >= MIN_AGREEING:
        return verdict(True, f"{change}, in {sum(one > 1 for one in gains)} of {len(gains)} pairs")
    if gain >= MIN_GAIN:
        return verdict(False, f"{change}, but the pairs disagree")
    return verdict(False, f"{change}: no gain that is worth a change")


def _gains(goal: Goal, pairs: Sequence[Pair]) -> tuple[float, ...]:
    return tuple(goal.gain(pair.candidate, than=pair.current) for pair in pairs)
