"""What a store counts."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any


class EvictionReason(enum.StrEnum):
    """Why a block went."""

    ROOM = "room"
    QUOTA = "quota"
    EXPIRED = "expired"


@dataclass(slots=True)
class StoreCounters:
    """Counted since start, in blocks."""

    num_hits: int = 0
    num_misses: int = 0
    num_puts: int = 0
    num_rejected: int = 0
    evictions: Counter[EvictionReason] = field(default_factory=Counter[EvictionReason])

    @property
    def num_evictions(self) -> int:
        """For whatever reason."""
        return self.evictions.total()


def subtract(counter: Counter[Any], key: Hashable, amount: int) -> None:
    """Less of a key; a key that has none left is gone."""
    counter[key] -= amount
    if not counter[key]:
        del counter[key]
