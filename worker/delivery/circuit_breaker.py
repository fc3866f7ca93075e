"""When to leave a failing peer alone."""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens after some failures in a row, for a time; then one failure opens it again.

    Args:
        max_failures: failures in a row that open it.
        open_s: how long it stays open, seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        max_failures: int = 3,
        open_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_failures = max_failures
        self._open_s = open_s
        self._clock = clock
        self._num_failures = 0
        self._open_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the peer is to be left alone now."""
        return self._clock() < self._open_until

    def succeeded(self) -> None:
        """The peer answered well: earlier failures are forgotten."""
        self._num_failures = 0
        self._open_until = 0.0

    def failed(self) -> None:
        """The peer failed."""
        self._num_failures += 1
        if self._num_failures >= self._max_failures:
            self._open_until = self._clock() + self._open_s
