"""Overlapping activities to parts that sum to the whole. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, in ns; empty if it ends before it begins."""

    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """Never negative."""
        return max(0, self.end_ns - self.start_ns)


@dataclass(frozen=True, slots=True)
class Activity:
    """What was going on for a while.

    Attributes:
        part: name of the part of the budget that pays for it.
        rank: where activities overlap, the lowest rank pays; of equal ranks the one that began
            last, which is the more particular.
    """

    part: str
    rank: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a window that one part pays for; an empty part is not attributed."""

    part: str
    start_ns: int
    end_ns: int


def stretches(window: Window, activities: Iterable[Activity]) -> list[Stretch]:
    """Cuts a window into stretches, without gap or overlap, in order."""
    if not window.duration_ns:
        return []
    inside = [
        activity
        for activity in activities
        if activity.start_ns < window.end_ns
        and activity.end_ns > window.start_ns
        and activity.end_ns > activity.start_ns
    ]
    cuts = {window.start_ns, window.end_ns}
    for activity in inside:
        cuts.add(max(activity.start_ns, window.start_ns))
        cuts.add(min(activity.end_ns, window.end_ns))
    points = sorted(cuts)
    by_start = sorted(inside, key=lambda activity: activity.start_ns)
    found: list[Stretch] = []
    live: list[Activity] = []
    next_idx = 0
    for start_ns, end_ns in pairwise(points):
        while next_idx < len(by_start) and by_start[next_idx].start_ns <= start_ns:
            live.append(by_start[next_idx])
            next_idx += 1
        live = [activity for activity in live if activity.end_ns > start_ns]
        part = min(live, key=lambda a: (a.rank, -a.start_ns)).part if live else ""
        if found and found[-1].part == part:
            found[-1] = Stretch(part, found[-1].start_ns, end_ns)
        else:
            found.append(Stretch(part, start_ns, end_ns))
    return found


def sum_by_part(pieces: Sequence[Stretch]) -> dict[str, int]:
    """Nanoseconds by part; what is not attributed is under the empty name."""
    sums: dict[str, int] = {}
    for piece in pieces:
        sums[piece.part] = sums.get(piece.part, 0) + piece.end_ns - piece.start_ns
    return sums
