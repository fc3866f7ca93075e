"""What all runners over a K/V pool have alike: everything but `run`."""

from __future__ import annotations

from pathlib import Path

from services.core.blocks import BlockLayout
from worker.engine.kv_pool import block_bytes
from worker.engine.model_files import eos_token_ids, model_revision
from worker.engine.step_model import PooledModel


class PoolRunner:
    """A StepRunner but for `run`, over a model of a directory."""

    def __init__(self, model_dir: Path, model: PooledModel) -> None:
        self._pool = model.pool
        self._vocab_size = model.vocab_size
        self._max_model_len = model.max_model_len
        self._eos_token_ids = eos_token_ids(model_dir)
        self._revision = model_revision(model_dir, model.numerics)

    @property
    def layout(self) -> BlockLayout:
        """Layout of the K/V blocks."""
        return self._pool.layout

    @property
    def model_revision(self) -> str:
        """Digest of the weights and of how they are computed."""
        return self._revision

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return self._pool.num_blocks

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        return block_bytes(self._pool.layout)

    @property
    def vocab_size(self) -> int:
        """Ids 0 .. vocab_size - 1 are valid."""
        return self._vocab_size

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus answer."""
        return self._max_model_len

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return self._eos_token_ids

    def export_block(self, block_id: int) -> bytes:
        """A copy of one block's bytes, in the order of the layout."""
        return self._pool.export_block(block_id)

    def import_block(self, block_id: int, content: bytes | memoryview) -> None:
        """Overwrites one block.

        Raises:
            ValueError: not the size of a block.
        """
        self._pool.import_block(block_id, content)
