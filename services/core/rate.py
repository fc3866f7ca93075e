"""How often something happens."""

from __future__ import annotations

from collections import deque

WINDOW_S = 20.0
MIN_SPAN_S = 1.0
_MAX_EVENTS = 16_384


class EventRate:
    """Counts events of the last WINDOW_S seconds; the caller's clock must not run backwards."""

    def __init__(self) -> None:
        self._at_s: deque[float] = deque(maxlen=_MAX_EVENTS)

    def add(self, now_s: float) -> None:
        """One more."""
        self._at_s.append(now_s)

    def per_s(self, now_s: float) -> float:
        """Events per second since the first one in the window; 0 if there is none."""
        while self._at_s and self._at_s[0] < now_s - WINDOW_S:
            self._at_s.popleft()
        if not self._at_s:
            return 0.0
        return len(self._at_s) / max(MIN_SPAN_S, now_s - self._at_s[0])
