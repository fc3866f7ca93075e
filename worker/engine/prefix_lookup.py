"""What a waiting sequence would find in the pool, now or soon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.core.blocks import BlockHash
from worker.engine.block_pool import BlockPool, PrefixHit
from worker.engine.sequence import LiveSequence


@dataclass(frozen=True, slots=True)
class BlockNeed:
    """What a waiting sequence finds, and how many blocks it needs beside it."""

    hit: PrefixHit
    num_new: int


class PrefixLookup:
    """Matches sequences with the pool; changes neither."""

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self._pool = pool
        self._block_size = block_size

    def need_of(self, seq: LiveSequence) -> BlockNeed:
        """Need of all tokens that a sequence has."""
        num_blocks = -(-len(seq.token_ids) // self._block_size)
        if seq.wants_prompt_logprobs:
            # What is found is not computed, so nothing would be known of its likelihood.
            return BlockNeed(PrefixHit(), num_blocks)
        hit = self._pool.match(self._findable_hashes(seq))
        return BlockNeed(hit, num_blocks - len(hit.block_ids))

    def uncomputed_hashes(self, seq: LiveSequence) -> Sequence[BlockHash]:
        """Full blocks of its prompt that a running sequence has yet to compute."""
        hashes = seq.hashes(seq.num_prompt // self._block_size, self._block_size)
        return hashes[seq.num_computed // self._block_size :]

    def is_being_computed(self, seq: LiveSequence, pending: set[BlockHash]) -> bool:
        """Whether the first block that a sequence would have to compute is among these."""
        if not pending or seq.wants_prompt_logprobs or not self._pool.remembers:
            return False
        hashes = self._findable_hashes(seq)
        num_hit = len(self._pool.match(hashes).block_ids)
        return num_hit < len(hashes) and hashes[num_hit] in pending

    def _findable_hashes(self, seq: LiveSequence) -> Sequence[BlockHash]:
        # At least one token must be computed: its logits are needed.
        return seq.hashes((len(seq.token_ids) - 1) // self._block_size, self._block_size)
