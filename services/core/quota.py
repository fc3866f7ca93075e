"""What is left of a caller's limits, as replies tell it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Left:
    """One limit.

    Attributes:
        limit: in any minute.
        remaining: may be used now.
        reset_s: until all of it may be used again, if nothing is used meanwhile.
    """

    limit: int
    remaining: int
    reset_s: int


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """The tightest limit of each kind; None where there is none."""

    requests: Left | None = None
    tokens: Left | None = None
