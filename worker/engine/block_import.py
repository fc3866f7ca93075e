"""K/V blocks on their way into the pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog

from services.core.blocks import BlockHash, BlockPayload
from worker.engine.block_pool import BlockPool, NoRoom, PrefixHit
from worker.engine.runner import StepRunner

log = structlog.get_logger(__name__)

_Placed = tuple[int, BlockPayload]


class BlockMemory(Protocol):
    """Where blocks are copied to."""

    def import_block(self, block_id: int, content: bytes | memoryview) -> None:
        """As StepRunner.import_block."""
        ...


def import_into_pool(pool: BlockPool, runner: StepRunner, payloads: Sequence[BlockPayload]) -> None:
    """Makes verified blocks findable; those that do not fit, or do not match, are left out.

    Args:
        pool: the books.
        runner: owns the memory.
        payloads: in chain order: what comes after one that is left out is left out as well.
    """
    placed = _placed(pool, runner.layout.text(), payloads)
    for block_id, payload in placed[: copy_blocks(runner, placed)]:
        pool.remember(block_id, payload.block_hash)
    # Held until all are in: otherwise a late one could take the place of an early one.
    pool.release([block_id for block_id, _ in placed])


def copy_blocks(memory: BlockMemory, placed: Sequence[_Placed]) -> int:
    """Copies blocks to their places; how many of them, from the first on, are right."""
    for num_right, (block_id, payload) in enumerate(placed):
        try:
            memory.import_block(block_id, payload.data)
        except Exception:
            # A cache can only help: whatever is wrong with its block costs a recompute, not a step.
            log.exception("blocks.import_failed", size_bytes=len(payload.data))
            return num_right
        if not payload.is_current():
            log.warning("blocks.import_overwritten", size_bytes=len(payload.data))
            return num_right
    return len(placed)


def _placed(pool: BlockPool, layout: str, payloads: Sequence[BlockPayload]) -> list[_Placed]:
    """Places for those that the pool lacks."""
    placed: list[_Placed] = []
    hashes: set[BlockHash] = set()
    for payload in payloads:
        if payload.block_hash in hashes or pool.holds(payload.block_hash):
            continue
        if payload.layout != layout:
            log.warning("blocks.import_refused", layout=payload.layout, expected=layout)
            break
        block_ids = pool.allocate(PrefixHit(), 1)
        if isinstance(block_ids, NoRoom):
            break
        hashes.add(payload.block_hash)
        placed.append((block_ids[0], payload))
    return placed
