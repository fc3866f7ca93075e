"""K/V blocks on their way out of the pool and into it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import structlog

from services.core.blocks import BlockPayload
from worker.engine.block_pool import BlockPool, NoRoom, PrefixHit
from worker.engine.runner import StepRunner
from worker.engine.sequence import LiveSequence

log = structlog.get_logger(__name__)


def full_blocks(seq: LiveSequence, runner: StepRunner) -> list[BlockPayload]:
    """Copies of the sequence's full blocks that were computed here, not found or imported."""
    block_size = runner.layout.block_size
    num_full = min(seq.num_computed // block_size, len(seq.block_table))
    parents = [seq.root, *seq.hashes(num_full, block_size)]
    payloads: list[BlockPayload] = []
    for block_idx in range(num_full):
        block_hash = parents[block_idx + 1]
        if block_hash not in seq.fresh_hashes:
            continue
        content = runner.export_block(seq.block_table[block_idx])
        payloads.append(
            BlockPayload(
                block_hash=block_hash,
                parent_hash=parents[block_idx],
                layout=runner.layout.text(),
                tenant=seq.spec.tenant,
                data=content,
                crc32=zlib.crc32(content),
                head=parents[1],
            )
        )
    return payloads


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
        pool.remember(block_ids[0], payload.block_hash)
    # Held until all are in: otherwise a late one could take the place of an early one.
    pool.release(taken)
