"""What a policy remembers of a block, and what of it tells how soon it is used again."""

from __future__ import annotations

from dataclasses import dataclass

from cache_service.policies.reuse_model import Trait

_MAX_TURN = 6
_MAX_FREQUENCY = 14


@dataclass(slots=True)
class KnownBlock:
    """What is remembered of a block, stored or not.

    Attributes:
        turn: how many requests have continued its chain, one after the other.
        num_after: blocks that followed it in the last request that used it.
        num_new: new blocks of that request.
    """

    used_s: float
    row: int
    turn: int
    num_after: int
    num_uses: int
    num_new: int


def trait_of(known: KnownBlock) -> Trait:
    """The most telling first; by classes, so that many blocks share one."""
    frequency = known.num_uses
    if frequency > 2:
        frequency = min(_MAX_FREQUENCY, 1 + (frequency - 1).bit_length())
    num_new = 0 if known.num_new <= 1 else 1 if known.num_new <= 3 else 2
    if known.num_new > 15:
        num_new = 3
    return (min(known.num_after, 1), frequency, min(known.turn, _MAX_TURN), num_new)
