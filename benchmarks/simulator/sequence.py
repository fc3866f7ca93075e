"""A sequence of which only the lengths and the hashes exist."""

from __future__ import annotations

from typing import cast

from services.core.blocks import BLOCK_HASH_BYTES, BlockHash
from services.core.sampling import SamplingParams
from worker.engine.port import SequenceSpec
from worker.engine.sequence import LiveSequence

_OUTPUT_BIT = 1 << (8 * BLOCK_HASH_BYTES - 1)


class SimulatedSequence(LiveSequence):
    """A `LiveSequence` without token ids: what the step scheduler sees is its length.

    Args:
        request_idx: names the blocks that hold output, which no other request can hit.
        deadline_s: when it is given up if its first token has not come.
    """

    __slots__ = ("arrived_s", "deadline_s", "first_token_s", "request_idx")

    def __init__(
        self,
        request_idx: int,
        *,
        num_prompt: int,
        num_output: int,
        block_hashes: tuple[BlockHash, ...],
        arrived_s: float,
        deadline_s: float,
    ) -> None:
        spec = SequenceSpec(str(request_idx), (), SamplingParams(max_tokens=num_output))
        super().__init__(spec, arrival_idx=request_idx, root=b"", max_model_len=num_output)
        self.request_idx = request_idx
        self.num_prompt = num_prompt
        self.max_len = num_prompt + num_output
        self.block_hashes = list(block_hashes)
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.first_token_s: float | None = None
        self.set_len(num_prompt)

    def set_len(self, num_tokens: int) -> None:
        """Tokens of prompt and output so far."""
        # A range has the length of a list, and takes no memory.
        self.token_ids = cast(list[int], range(num_tokens))

    def hashes(self, num_blocks: int, block_size: int) -> list[BlockHash]:
        """Hashes of the first num_blocks full blocks."""
        while len(self.block_hashes) < num_blocks:
            number = _OUTPUT_BIT | (self.request_idx << 32) | len(self.block_hashes)
            self.block_hashes.append(number.to_bytes(BLOCK_HASH_BYTES, "little"))
        return self.block_hashes[:num_blocks]
