"""When a call is tried again, and after what pause."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from services.core.errors import DependencyLost, Overloaded, QuotaExceeded, TokenmillError


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is.

    Attributes:
        max_retries: of one call; 0 tries once.
        first_pause_s: before the first retry; doubled for each further one, half of it at random.
        max_pause_s: longest pause; a gateway that asks for a longer one is not asked again.
    """

    max_retries: int = 4
    first_pause_s: float = 0.2
    max_pause_s: float = 20.0


class Patience:
    """One call's tries and time.

    Only what a later try can mend is tried again, and only before the first part of an answer: a
    caller never reads a text twice.

    Args:
        retries: the client's.
        timeout_s: for all tries and pauses together.
        is_turn: the call adds to a session. Then only a refusal that the gateway itself said is
            tried again: behind a broken connection the turn may have been kept.
    """

    def __init__(self, retries: Retries, *, timeout_s: float, is_turn: bool = False) -> None:
        self._retries = retries
        self._deadline_s = time.monotonic() + timeout_s
        self._is_turn = is_turn
        self._num_retries = 0

    @property
    def left_s(self) -> float:
        """Time that the next try may take."""
        return max(0.001, self._deadline_s - time.monotonic())

    def pause_s(self, error: TokenmillError) -> float | None:
        """How long to wait before the next try; None: the error is final."""
        if not isinstance(error, Overloaded | DependencyLost | QuotaExceeded):
            return None
        if self._is_turn and isinstance(error, DependencyLost):
            return None
        if self._num_retries >= self._retries.max_retries:
            return None
        own_s = self._retries.first_pause_s * 2**self._num_retries
        own_s = min(self._retries.max_pause_s, own_s) * random.uniform(0.5, 1.0)
        pause_s = max(own_s, error.retry_after_s or 0.0)
        if pause_s > self._retries.max_pause_s or pause_s >= self.left_s:
            return None
        self._num_retries += 1
        return pause_s
