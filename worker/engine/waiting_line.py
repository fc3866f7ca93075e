"""Sequences that wait for a place in the running batch."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from services.core.request import RequestClass
from worker.engine.sequence import LiveSequence

_RANKS = {request_class: rank for rank, request_class in enumerate(RequestClass)}


def rank_of(seq: LiveSequence) -> int:
    """0 is the most urgent class."""
    return _RANKS[seq.spec.request_class]


def urgency_of(seq: LiveSequence) -> tuple[int, int]:
    """Order of service: by class, then by arrival; the lowest is served first."""
    return rank_of(seq), seq.arrival_idx


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
