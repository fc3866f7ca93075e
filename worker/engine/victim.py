"""Who gives up its blocks when there are too few."""

from __future__ import annotations

from collections.abc import Sequence

from worker.engine.block_pool import BlockPool
from worker.engine.sequence import LiveSequence
from worker.engine.waiting_line import rank_of, urgency_of


def choose_victim(
    running: Sequence[LiveSequence], pool: BlockPool, block_size: int, *, least_rank: int = 0
) -> LiveSequence:
    """Of the least urgent class the sequence that loses least; the latest of equals.

    The most urgent sequence of all is spared unless it is alone, so that one always advances and
    nobody starves.

    Args:
        running: at least one.
        pool: tells which blocks others hold too.
        block_size: tokens of a block.
        least_rank: spares more urgent classes as well, if any sequence is then left.
    """
    first = min(running, key=urgency_of)
    candidates = [seq for seq in running if seq is not first and rank_of(seq) >= least_rank]

    def eligibility(seq: LiveSequence) -> tuple[int, int, int]:
        # What others hold too stays in the pool, so it is not computed again.
        num_shared = pool.num_shared(seq.block_table) * block_size
        return rank_of(seq), -max(0, seq.num_computed - num_shared), seq.arrival_idx

    return max(candidates or [first], key=eligibility)
