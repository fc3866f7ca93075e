"""Bounds of a store of blocks, and what it answers to an offer."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds of a store.

    Attributes:
        max_blocks: bounds the bookkeeping, which tiny blocks would let grow past the bytes.
        lease_s: how long blocks stay at least after a lookup found them.
        tenant_bytes: most bytes of one tenant.
        ttl_s: blocks that were not used for so long go at the next sweep.
    """

    capacity_bytes: int
    max_blocks: int = 1_000_000
    lease_s: float = 5.0
    tenant_bytes: float = float("inf")
    ttl_s: float = float("inf")


class PutOutcome(enum.Enum):
    """What became of a block that was offered."""

    STORED = "stored"
    PRESENT = "present"
    TOO_LARGE = "too_large"
    NO_ROOM = "no_room"
    CONFLICT = "conflict"
    """Its hash is here with another layout, or it would be its own ancestor: somebody lies."""
