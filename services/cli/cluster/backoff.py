"""How long a child that died waits before it is started again. Pure."""

from __future__ import annotations

INITIAL_S = 0.2
CAP_S = 30.0
STABLE_AFTER_S = 30.0


class Backoff:
    """Doubles with every death in a row; a child that ran long enough starts over."""

    def __init__(
        self,
        *,
        initial_s: float = INITIAL_S,
        cap_s: float = CAP_S,
        stable_after_s: float = STABLE_AFTER_S,
    ) -> None:
        self._initial_s = initial_s
        self._cap_s = cap_s
        self._stable_after_s = stable_after_s
        self._next_s = initial_s

    def next_delay_s(self, *, ran_for_s: float) -> float:
        """Seconds to wait now.

        Args:
            ran_for_s: how long the child lived this time.
        """
        if ran_for_s >= self._stable_after_s:
            self._next_s = self._initial_s
        delay_s = self._next_s
        self._next_s = min(self._cap_s, self._next_s * 2)
        return delay_s
