"""How the broker treats pulled messages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsumerLimits:
    """Of each lane's consumer; see the settings of the same names."""

    ack_wait_s: float
    max_ack_pending: int
