"""K/V blocks on their way into the pool."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from services.core.blocks import BlockPayload
from worker.engine.block_pool import BlockPool, NoRoom, PrefixHit
from worker.engine.runner import StepRunner

log = structlog.get_logger(__name__)


def import_into_pool(pool: BlockPool, runner: StepRunner, payloads: Sequence[BlockPayload]) -> None:
    """Makes verified blocks findable; those that do not fit, or do not match, are left out.

    Args:
        pool: the books.
        runner: owns the memory.
        payloads: in chain order: what comes after one that is left out is left out as well.
    """
    layout = runner.layout.text()
    taken: list[int] = []
    for payload in payloads:
        if pool.holds(payload.block_hash):
            continue
        if payload.layout != layout:
            log.warning("blocks.import_refused", layout=payload.layout, expected=layout)
            break
        block_ids = pool.allocate(PrefixHit(), 1)
        if isinstance(block_ids, NoRoom):
            break
        taken.extend(block_ids)
        try:
            runner.import_block(block_ids[0], payload.data)
        except Exception:
            # A cache can only help: whatever is wrong with its block costs a recompute, not a step.
            log.exception("blocks.import_failed", size_bytes=len(payload.data))
            break
        if not payload.is_current():
            log.warning("blocks.import_overwritten", size_bytes=len(payload.data))
            break
        pool.remember(block_ids[0], payload.block_hash)
    # Held until all are in: otherwise a late one could take the place of an early one.
    pool.release(taken)
