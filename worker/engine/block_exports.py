"""When blocks go out to the cache service: at a sequence's end, preemption, and eviction."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

from services.core.blocks import PUBLIC_TENANT, BlockHash, BlockPayload
from worker.engine.full_block import BlockState, FullBlock
from worker.engine.runner import StepRunner
from worker.engine.sequence import LiveSequence

Tell = Callable[[Sequence[FullBlock]], None]
HasRoom = Callable[[int], bool]


class BlockExports:
    """The pool's blocks that were computed here, and how far they have come on their way out.

    Touched by the engine's thread alone, as is the pool, to which it listens.

    Args:
        runner: owns the blocks' memory.
        tell: hears of blocks that may go out, a chain or a part of one at a time.
        has_room: whether who is told would take so many bytes now.
    """

    def __init__(self, runner: StepRunner, tell: Tell, has_room: HasRoom) -> None:
        self._runner = runner
        self._tell = tell
        self._has_room = has_room
        self._layout = runner.layout.text()
        self._blocks: dict[BlockHash, FullBlock] = {}
        self._evicted: list[FullBlock] = []
        self._evicted_bytes = 0

    def computed(self, seq: LiveSequence, block_idx: int) -> None:
        """A block of a sequence was computed and can be found by its hash."""
        hashes = seq.block_hashes
        stub = BlockPayload(
            block_hash=hashes[block_idx],
            parent_hash=hashes[block_idx - 1] if block_idx else seq.root,
            layout=self._layout,
            tenant=PUBLIC_TENANT if hashes[block_idx] in seq.public.hashes else seq.spec.tenant,
            data=b"",
            crc32=0,
            head=hashes[0],
        )
        copy = partial(self._runner.export_block, seq.block_table[block_idx])
        self._blocks[stub.block_hash] = FullBlock(stub, self._runner.block_bytes, copy)

    def let_go(self, seq: LiveSequence) -> None:
        """A sequence gives up its blocks, at its end or preempted: tells of those not told of."""
        fresh = [block for block in self._of(seq) if block.state is BlockState.HERE]
        if fresh:
            self._told(fresh)

    def distrust(self, seq: LiveSequence) -> None:
        """A sequence failed: nobody elsewhere shall build on its blocks."""
        for block in self._of(seq):
            if block.state is BlockState.HERE:
                del self._blocks[block.stub.block_hash]

    def on_remembered(self, block_hash: BlockHash) -> None:
        """As a PoolListener; `computed` says more."""

    def on_forgotten(self, block_hash: BlockHash) -> None:
        """The pool takes a block's place: its last chance to be copied."""
        block = self._blocks.pop(block_hash, None)
        if block is None:
            return
        num_bytes = self._evicted_bytes + block.size_bytes
        if block.state is BlockState.HERE and self._has_room(num_bytes):
            self._evicted.append(block)
            self._evicted_bytes = num_bytes
            block.state = BlockState.TOLD
        block.leave_pool(keep=block.state is BlockState.TOLD)

    def tell_evicted(self) -> None:
        """Tells of blocks that were evicted since the last call, beginnings of chains first."""
        # A chain is evicted from its end.
        evicted = self._evicted[::-1]
        self._evicted, self._evicted_bytes = [], 0
        evicted.sort(key=lambda block: block.stub.head)
        for _, blocks in itertools.groupby(evicted, key=lambda block: block.stub.head):
            self._told(list(blocks))

    def forget_all(self) -> None:
        """The pool cannot be trusted any more."""
        for block in self._blocks.values():
            block.leave_pool(keep=False)
        self._blocks.clear()
        self._evicted, self._evicted_bytes = [], 0

    def _of(self, seq: LiveSequence) -> list[FullBlock]:
        known = (self._blocks.get(block_hash) for block_hash in seq.block_hashes)
        return [block for block in known if block is not None]

    def _told(self, blocks: Sequence[FullBlock]) -> None:
        for block in blocks:
            block.state = BlockState.TOLD
        self._tell(blocks)
