"""What a step computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from services.core.step_time import StepWork
from worker.engine.sequence import LiveSequence


class SequenceSlice(msgspec.Struct, frozen=True):
    """Consecutive tokens of one sequence to compute in a step.

    Attributes:
        start: index of the first token in the sequence.
        num_tokens: drafts included.
        is_prefill: prompt tokens. Output tokens, whether decoded, resumed, recomputed or guessed,
            are each computed as if alone, so that their K/V comes from the same shapes each time.
        samples: the logits of the last token that is no draft choose the next token, and those of
            each draft the one after it, as far as the drafts were right.
        draft_token_ids: guesses of how the sequence goes on; the slice's last tokens.
    """

    seq: LiveSequence
    start: int
    num_tokens: int
    is_prefill: bool
    samples: bool
    draft_token_ids: tuple[int, ...] = ()

    @property
    def token_ids(self) -> Sequence[int]:
        """The slice's tokens."""
        token_ids = self.seq.token_ids[self.start : self.start + self.num_tokens]
        return [*token_ids, *self.draft_token_ids] if self.draft_token_ids else token_ids

    @property
    def next_prompt_token_ids(self) -> Sequence[int]:
        """Prompt tokens that follow the slice's: what its logits tell the likelihood of."""
        end = min(self.start + self.num_tokens + 1, self.seq.num_prompt)
        return self.seq.token_ids[self.start + 1 : end]

    def without_drafts(self, num_wrong: int) -> SequenceSlice:
        """The slice as it counts: without the last so many drafts, which were wrong."""
        if not num_wrong:
            return self
        return msgspec.structs.replace(
            self,
            num_tokens=self.num_tokens - num_wrong,
            draft_token_ids=self.draft_token_ids[:-num_wrong],
        )


@dataclass(slots=True)
class StepPlan:
    """The work of one step.

    Attributes:
        num_tokens: of all slices.
    """

    slices: list[SequenceSlice] = field(default_factory=list[SequenceSlice])
    preempted: list[LiveSequence] = field(default_factory=list[LiveSequence])
    num_tokens: int = 0

    def add(self, piece: SequenceSlice) -> None:
        """Plans a slice."""
        self.slices.append(piece)
        self.num_tokens += piece.num_tokens

    def preempt(self, victim: LiveSequence) -> None:
        """The victim computes nothing in this step."""
        self.slices = [piece for piece in self.slices if piece.seq is not victim]
        self.num_tokens = sum(piece.num_tokens for piece in self.slices)
        self.preempted.append(victim)

    @property
    def work(self) -> StepWork:
        """How much it is, for estimates of its time."""
        num_prefill = num_decodes = decode_pairs = 0
        prefill_pairs = 0.0
        for piece in self.slices:
            if piece.is_prefill:
                num_prefill += piece.num_tokens
                prefill_pairs += piece.num_tokens * (piece.start + piece.num_tokens / 2)
            else:
                num_decodes += piece.num_tokens
                decode_pairs += piece.num_tokens * piece.start
        return StepWork(num_prefill, prefill_pairs, num_decodes, decode_pairs)
