"""How long a caller may wait."""

from __future__ import annotations

import math
import time

from services.core.errors import InvalidRequest


def deadline_unix_ms(asked_s: float | None, *, limit_s: float) -> int:
    """Absolute deadline: what the caller asks for, at most the operator's limit from now."""
    seconds = limit_s if asked_s is None else min(asked_s, limit_s)
    return int((time.time() + seconds) * 1000)


def parse_timeout_s(text: str, *, field: str) -> float:
    """Seconds as a caller wrote them.

    Raises:
        InvalidRequest: not a finite number above 0.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequest(
            f"{field} is {text[:64]!r}; allowed: a number of seconds above 0", field=field
        )
    return seconds
