"""Blocks that a worker will hold soon: those of prompts that it was given and has not computed."""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.core.blocks import BlockHash

MAX_COMING = 20_000
"""Prompts remembered at once; beyond that those that should be done first are forgotten."""


@dataclass(frozen=True, slots=True)
class _Coming:
    hashes: Sequence[BlockHash]
    until_s: float


class ComingBlocks:
    """What placement knows before a worker's events tell it.

    Requests with one beginning often come together. The second finds nothing of it in the index
    while the first still waits or is computed; a worker that holds it back until then computes the
    beginning once.

    A prompt is remembered by the first block that its worker lacked: one entry, however long it is.

    Args:
        max_prompts: remembered at once.
    """

    def __init__(self, max_prompts: int = MAX_COMING) -> None:
        self._max_prompts = max_prompts
        self._of_first: dict[BlockHash, dict[str, _Coming]] = {}
        self._due: list[tuple[float, int, str, BlockHash]] = []
        self._tie = itertools.count()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, worker_id: str, hashes: Sequence[BlockHash], until_s: float) -> None:
        """The worker was given a prompt of which it does not hold these blocks.

        Args:
            worker_id: of the worker.
            hashes: the blocks, in their order.
            until_s: when its events will have told of them, or something went wrong.
        """
        if not hashes:
            return
        self._of_first.setdefault(hashes[0], {})[worker_id] = _Coming(hashes, until_s)
        heapq.heappush(self._due, (until_s, next(self._tie), worker_id, hashes[0]))
        if len(self._due) > self._max_prompts:
            self._forget_first()

    def extend(
        self, found: Mapping[str, int], hashes: Sequence[BlockHash], now_s: float
    ) -> Mapping[str, int]:
        """Leading blocks by worker, with those that come.

        Args:
            found: leading blocks that each worker holds.
            hashes: of the prompt.
            now_s: the scheduler's clock.
        """
        while self._due and self._due[0][0] <= now_s:
            self._forget_first()
        if self._of_first.keys().isdisjoint(hashes):
            return found
        extended = dict(found)
        for idx, block_hash in enumerate(hashes):
            for worker_id, coming in self._of_first.get(block_hash, {}).items():
                num_blocks = extended.get(worker_id, 0)
                if num_blocks >= idx:
                    num_common = idx + _num_common(coming.hashes, hashes[idx:])
                    extended[worker_id] = max(num_blocks, num_common)
        return extended

    def _forget_first(self) -> None:
        until_s, _, worker_id, first = heapq.heappop(self._due)
        workers = self._of_first.get(first)
        # A later prompt with the same beginning keeps it.
        if workers is not None and worker_id in workers and workers[worker_id].until_s == until_s:
            del workers[worker_id]
            if not workers:
                del self._of_first[first]


def _num_common(one: Sequence[BlockHash], other: Sequence[BlockHash]) -> int:
    """Equal leading blocks; a hash is chained to those before it, so halving finds their end."""
    num_both = min(len(one), len(other))
    return bisect_left(range(num_both), True, key=lambda idx: one[idx] != other[idx])
