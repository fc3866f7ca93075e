"""How long a search may go on. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Callable


class TimeBudget:
    """Seconds for the steps of one search and its last comparison.

    Args:
        total_s: for all of it.
        clock: seconds that only rise.
    """

    def __init__(self, total_s: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends_s = clock() + total_s
        self._asked_s: float | None = None
        self._longest_s = 0.0

    def fits_another(self) -> bool:
        """Whether a step as long as the longest, and a last comparison like it, fit in.

        Asked before each step: from one time to the next, a step was made.
        """
        now_s = self._clock()
        if self._asked_s is not None:
            self._longest_s = max(self._longest_s, now_s - self._asked_s)
        self._asked_s = now_s
        return now_s + 2 * self._longest_s < self._ends_s
