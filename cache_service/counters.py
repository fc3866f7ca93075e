"""What a store counts."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.runtime.bounded_label import TENANT_LABEL


class EvictionReason(enum.StrEnum):
    """Why a block went."""

    ROOM = "room"
    QUOTA = "quota"
    EXPIRED = "expired"


@dataclass(slots=True)
class StoreCounters:
    """Counted since start, in blocks where the name does not say bytes.

    Attributes:
        hits, hit_bytes, misses: by tenant, as labels name it.
        evictions: by reason and tenant.
    """

    num_puts: int = 0
    num_rejected: int = 0
    hits: Counter[str] = field(default_factory=Counter[str])
    hit_bytes: Counter[str] = field(default_factory=Counter[str])
    misses: Counter[str] = field(default_factory=Counter[str])
    evictions: Counter[tuple[EvictionReason, str]] = field(
        default_factory=Counter[tuple[EvictionReason, str]]
    )

    def hit(self, tenant: str, sizes_bytes: Sequence[int]) -> None:
        """Blocks of these sizes were asked for and found."""
        label = TENANT_LABEL.of(tenant)
        self.hits[label] += len(sizes_bytes)
        self.hit_bytes[label] += sum(sizes_bytes)

    def missed(self, tenant: str, num_blocks: int) -> None:
        """Blocks were asked for and are nowhere."""
        self.misses[TENANT_LABEL.of(tenant)] += num_blocks

    def evicted(self, reason: EvictionReason, tenant: str) -> None:
        """A tenant's block went."""
        self.evictions[reason, TENANT_LABEL.of(tenant)] += 1

    @property
    def num_hits(self) -> int:
        """Of all tenants."""
        return self.hits.total()

    @property
    def num_misses(self) -> int:
        """Of all tenants."""
        return self.misses.total()

    @property
    def num_evictions(self) -> int:
        """For whatever reason."""
        return self.evictions.total()


def subtract(counter: Counter[Any], key: Hashable, amount: int) -> None:
    """Less of a key; a key that has none left is gone."""
    counter[key] -= amount
    if not counter[key]:
        del counter[key]
