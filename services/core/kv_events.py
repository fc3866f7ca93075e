"""What a worker tells of the K/V blocks that a prefix can hit there."""

from __future__ import annotations

from dataclasses import dataclass

from services.core.blocks import BlockHash


@dataclass(frozen=True, slots=True)
class KvState:
    """What a worker's blocks are named by, and how far it told of them.

    Attributes:
        model_revision, layout: parts of the root of every block hash.
        epoch: rises with each start of the worker.
        event_idx: the last event that was told; 0 if none was.
    """

    model_revision: str
    layout: str
    epoch: int
    event_idx: int


@dataclass(frozen=True, slots=True)
class KvEvent:
    """What changed at one worker since its event before.

    Attributes:
        epoch: rises with each start of the worker; events of an earlier one are void.
        event_idx: counts the events of an epoch from 1, without gaps.
        stored: blocks that can be hit from now on.
        removed: blocks that cannot be hit any more; disjoint from `stored`.
    """

    worker_id: str
    epoch: int
    event_idx: int
    stored: tuple[BlockHash, ...] = ()
    removed: tuple[BlockHash, ...] = ()


@dataclass(frozen=True, slots=True)
class KvSnapshot:
    """All blocks that a prefix can hit at one worker.

    Attributes:
        event_idx: the last event that is counted in; 0 if there was none.
    """

    worker_id: str
    epoch: int
    event_idx: int
    held: tuple[BlockHash, ...] = ()
