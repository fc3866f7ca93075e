"""The clock of an engine that only keeps time."""

from __future__ import annotations

import time
from collections.abc import Callable


class StepPace:
    """Ends each step so long after the one before, as hardware would that computes meanwhile.

    What Python does between steps is part of a step's time, not on top of it. A step that was late
    is not made up for by shorter ones.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._ended_s: float | None = None

    def step(self, duration_s: float) -> None:
        """Waits for the end of a step that takes so long."""
        now_s = self._clock()
        due_s = (now_s if self._ended_s is None else self._ended_s) + duration_s
        if due_s > now_s:
            self._sleep(due_s - now_s)
        self._ended_s = max(due_s, now_s)

    def rest(self) -> None:
        """There is no work: the next step begins when it is asked for."""
        self._ended_s = None
