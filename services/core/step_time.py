"""How long a worker's step takes."""

from __future__ import annotations

from dataclasses import dataclass

PREFILL_STRETCH = 2.0
"""A step with prefill may last this many times as long as its decodes alone, whatever the target:
a prompt that nearly stands still would hold up its own sequence more than it spares the others."""


def prefill_room_s(itl_target_s: float, decodes_s: float) -> float:
    """How long prompts may be computed in a step whose decodes alone take so long."""
    return max(itl_target_s, PREFILL_STRETCH * decodes_s) - decodes_s


@dataclass(frozen=True, slots=True)
class StepWork:
    """What a step computes.

    Attributes:
        num_prefill_tokens: prompt tokens.
        num_prefill_pairs: for each prompt token, the tokens that it attends to, summed.
        num_decodes: sequences that decode one token.
        num_decode_pairs: for each of those, the tokens that it attends to, summed.
    """

    num_prefill_tokens: int = 0
    num_prefill_pairs: float = 0.0
    num_decodes: int = 0
    num_decode_pairs: float = 0.0


@dataclass(frozen=True, slots=True)
class StepTimeModel:
    """Time of a step, affine in its work; `tokenmill calibrate` fits one to a worker.

    The defaults are a model of 8 billion parameters on one large GPU.

    Attributes:
        base_s: of any step.
        prefill_s: of each prompt token.
        prefill_pair_s: of each prompt token and token that it attends to.
        decode_s: of each sequence that decodes.
        decode_pair_s: of each token that such a sequence attends to.
        max_batched_tokens: tokens of a step at most.
    """

    base_s: float = 6e-3
    prefill_s: float = 4e-5
    prefill_pair_s: float = 1.3e-9
    decode_s: float = 5e-5
    decode_pair_s: float = 4e-8
    max_batched_tokens: int = 2_048

    def step_s(self, work: StepWork) -> float:
        """Time of one step."""
        return (
            self.base_s
            + self.prefill_s * work.num_prefill_tokens
            + self.prefill_pair_s * work.num_prefill_pairs
            + self.decode_s * work.num_decodes
            + self.decode_pair_s * work.num_decode_pairs
        )

    def prefill_token_s(self, num_decodes: int, num_decode_pairs: float) -> float:
        """Time that a prompt token takes while so many others decode in the same steps."""
        company_s = self.decode_s * num_decodes + self.decode_pair_s * num_decode_pairs
        budget = max(1, self.max_batched_tokens - num_decodes)
        return self.prefill_s + (self.base_s + company_s) / budget
