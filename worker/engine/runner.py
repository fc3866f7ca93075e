"""What the step loop needs of whatever computes a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from services.core.blocks import BlockLayout
from services.core.logprobs import TokenLogprobs
from worker.engine.step_plan import SequenceSlice


class SampledTokens(msgspec.Struct, frozen=True):
    """The next tokens of a sequence; logprobs of each if it asks for them."""

    token_ids: Sequence[int] = ()
    logprobs: Sequence[TokenLogprobs] = ()


NO_TOKENS = SampledTokens()


def accepted(sampled: Sequence[int], draft_token_ids: Sequence[int]) -> Sequence[int]:
    """What counts of the tokens sampled after a sequence's end and after each of its drafts.

    A token counts if all drafts before it were what was sampled there: then it is what would have
    been sampled without them.
    """
    num_right = 0
    for token_id, draft in zip(sampled, draft_token_ids, strict=False):
        if token_id != draft:
            break
        num_right += 1
    return sampled[: num_right + 1]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gave, by sequence id.

    Every slice that samples is in exactly one of tokens and errors.

    Attributes:
        prompt_logprobs: of the slice's next_prompt_token_ids, where they are asked for.
    """

    tokens: Mapping[str, SampledTokens] = field(default_factory=dict[str, SampledTokens])
    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    prompt_logprobs: Mapping[str, Sequence[TokenLogprobs]] = field(
        default_factory=dict[str, Sequence[TokenLogprobs]]
    )


class StepRunner(Protocol):
    """Computes steps and owns the memory of the K/V blocks.

    Called from one thread at a time, but for `export_block`.
    """

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
    def block_bytes(self) -> int:
        """Bytes of one block."""
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
        """Writes the slices' K/V and chooses the next tokens of those that sample.

        Running the same slice again gives the same result. Any exception fails the step; the loop
        then runs each slice alone to find the one at fault.
        """
        ...

    def export_block(self, block_id: int) -> bytes:
        """A copy of one block's bytes, in the order of the layout.

        From any thread, if the block is not written to meanwhile; other blocks may be.
        """
        ...

    def import_block(self, block_id: int, content: bytes | memoryview) -> None:
        """Overwrites one block.

        Raises:
            ValueError: not the size of a block.
        """
        ...
