"""What the step loop needs of whatever computes a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.core.blocks import BlockLayout
from worker.engine.step_scheduler import SequenceSlice


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gave, by sequence id; every slice that samples is in exactly one of the two."""

    token_ids: Mapping[str, int] = field(default_factory=dict[str, int])
    errors: Mapping[str, str] = field(default_factory=dict[str, str])


class StepRunner(Protocol):
    """Computes steps and owns the memory of the K/V blocks. Called from one thread at a time."""

    @property
    def layout(self) -> BlockLayout:
        """Layout of the K/V blocks."""
        ...

    @property
    def model_revision(self) -> str:
        """Digest of the weights."""
        ...

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        ...

    @property
    def vocab_size(self) -> int:
        """Ids 0 .. vocab_size - 1 are valid."""
        ...

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus answer."""
        ...

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        ...

    def run(self, slices: Sequence[SequenceSlice]) -> StepResult:
        """Writes the slices' K/V and chooses the next token of those that sample.

        Running the same slice again gives the same result. Any exception fails the step; the loop
        then runs each slice alone to find the one at fault.
        """
        ...

    def export_block(self, block_id: int) -> bytes:
        """A copy of one block's bytes, in the order of the layout."""
        ...

    def import_block(self, block_id: int, content: bytes | memoryview) -> None:
        """Overwrites one block.

        Raises:
            ValueError: not the size of a block.
        """
        ...
