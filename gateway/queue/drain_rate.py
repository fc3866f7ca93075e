"""When a retry has a chance."""

from __future__ import annotations

import math
from collections import deque

WINDOW_S = 20.0
UNKNOWN_RETRY_AFTER_S = 5.0
MIN_RETRY_AFTER_S = 1.0
MAX_RETRY_AFTER_S = 60.0
_MAX_COMPLETIONS = 4096


class DrainRate:
    """Counts completions of the last WINDOW_S seconds."""

    def __init__(self) -> None:
        self._finished_at_s: deque[float] = deque(maxlen=_MAX_COMPLETIONS)

    def add(self, now_s: float) -> None:
        """One more request has ended. Times must not fall."""
        self._finished_at_s.append(now_s)

    def retry_after_s(self, now_s: float, *, num_waiting: int) -> float:
        """Whole seconds until a tenth of those who wait now will have been served.

        A full queue has room again long before it is empty, but a caller that comes back at the
        first free place meets everybody else who was told the same.
        """
        while self._finished_at_s and self._finished_at_s[0] < now_s - WINDOW_S:
            self._finished_at_s.popleft()
        if not self._finished_at_s:
            return UNKNOWN_RETRY_AFTER_S
        per_s = len(self._finished_at_s) / max(1.0, now_s - self._finished_at_s[0])
        wait_s = math.ceil(num_waiting / 10 / per_s)
        return min(MAX_RETRY_AFTER_S, max(MIN_RETRY_AFTER_S, wait_s))
