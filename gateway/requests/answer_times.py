"""When each piece of an answer came, was made text, and was taken by the client."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from services.runtime import names

MAX_SLOW_GAPS = 8
"""Gaps kept of each answer: enough to explain it, few enough for a span."""


PieceTimes = tuple[int, int, int]
"""A piece came, was made text, and was taken; Unix time in ns."""


class AnswerTimes:
    """Keeps the first piece, the last, and the slowest gaps between; bounded.

    Args:
        on_gap: hears each gap between two pieces, in seconds.
    """

    def __init__(self, on_gap: Callable[[float], object] = lambda _: None) -> None:
        self._on_gap = on_gap
        self._first: PieceTimes | None = None
        self._last: PieceTimes | None = None
        self._slow: list[tuple[int, int, int, PieceTimes]] = []
        self._num_pieces = 0

    def add(self, arrived_ns: int, ready_ns: int, taken_ns: int) -> None:
        """A piece with tokens was taken; all times are Unix time.

        Args:
            arrived_ns: the worker's frame was here.
            ready_ns: its ids were text.
            taken_ns: the client's connection had taken it; later than ready_ns by much if the
                client reads slowly.
        """
        before = self._last
        self._last = piece = (arrived_ns, ready_ns, taken_ns)
        self._num_pieces += 1
        if before is None:
            self._first = piece
            return
        gap_ns = taken_ns - before[2]
        self._on_gap(gap_ns / 1e9)
        if len(self._slow) < MAX_SLOW_GAPS:
            heapq.heappush(self._slow, (gap_ns, self._num_pieces, before[2], piece))
        elif gap_ns > self._slow[0][0]:
            heapq.heapreplace(self._slow, (gap_ns, self._num_pieces, before[2], piece))

    def attributes(self) -> Mapping[str, list[int]]:
        """For a span: each list is flat, as attributes must be; empty if no piece came."""
        if self._first is None or self._last is None:
            return {}
        gaps: list[int] = []
        for _, _, since_ns, piece in sorted(self._slow, key=lambda gap: gap[1]):
            gaps.extend((since_ns, *piece))
        return {
            names.STREAM_FIRST_NS: list(self._first),
            names.STREAM_LAST_NS: list(self._last),
            names.STREAM_SLOW_GAPS_NS: gaps,
        }
