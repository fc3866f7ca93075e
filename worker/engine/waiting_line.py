"""Sequences that wait for a place in the running batch."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from operator import attrgetter

from worker.engine.sequence import LiveSequence


def rank_of(seq: LiveSequence) -> int:
    """0 is the most urgent class."""
    return seq.urgency[0]


urgency_of = attrgetter("urgency")
"""Order of service: by class, then by arrival; the lowest is served first."""


class WaitingLine:
    """In order of urgency; who was preempted stands where it stood."""

    def __init__(self) -> None:
        self._line: list[LiveSequence] = []

    def __len__(self) -> int:
        return len(self._line)

    def __iter__(self) -> Iterator[LiveSequence]:
        """From the most urgent on; a copy, so that the line may change meanwhile."""
        return iter(list(self._line))

    def add(self, seq: LiveSequence) -> None:
        """Lines a sequence up."""
        insort(self._line, seq, key=urgency_of)

    def remove(self, seq: LiveSequence) -> None:
        """Takes a sequence out."""
        self._line.remove(seq)
