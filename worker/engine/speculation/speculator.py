"""Decides how far to guess, by what guesses were worth so far and what verifying costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.core.step_time import StepWork
from worker.engine.sequence import LiveSequence
from worker.engine.speculation.lookup import PromptLookup
from worker.engine.step_times import StepTimes

MAX_DRAFTS = 12
"""Longest guess: beyond it even good guesses are rarely right to the end."""

_KEEP_SHARE = 0.85
"""What an earlier verdict weighs after one more: the last six or so decide."""
_PRIOR_RIGHT, _PRIOR_WRONG = 1.0, 1.0
_MARGIN = 1.25
"""A draft must be expected to gain this many times what it costs: estimates are rough."""


@dataclass(slots=True)
class _Guesser:
    """What one sequence's guesses were worth; old ones fade."""

    lookup: PromptLookup = field(default_factory=PromptLookup)
    guess: tuple[int, ...] = ()
    num_right: float = _PRIOR_RIGHT
    num_wrong: float = _PRIOR_WRONG

    @property
    def share_right(self) -> float:
        return self.num_right / (self.num_right + self.num_wrong)

    def learn(self, token_ids: Sequence[int]) -> None:
        """The sequence went on like this: also a guess that was not verified is judged."""
        num_right = 0
        for token_id, guessed in zip(token_ids, self.guess, strict=False):
            if token_id != guessed:
                break
            num_right += 1
        is_wrong = num_right < min(len(token_ids), len(self.guess))
        keep_share = _KEEP_SHARE ** (num_right + is_wrong)
        # As if one after the other: the sum of what each still weighs at the end.
        still = (1.0 - _KEEP_SHARE**num_right) / (1.0 - _KEEP_SHARE)
        self.num_right = self.num_right * keep_share + still * _KEEP_SHARE**is_wrong
        self.num_wrong = self.num_wrong * keep_share + is_wrong
        self.guess = ()


class Speculator:
    """Drafts for every decoding sequence; knows those that it has drafted for until they end."""

    def __init__(self, times: StepTimes) -> None:
        self._times = times
        self._guessers: dict[str, _Guesser] = {}
        self.num_drafted = 0
        """Draft tokens that were verified."""
        self.num_right = 0
        """Those of them that were right."""

    def propose(self, running: Sequence[LiveSequence]) -> None:
        """Sets the drafts of sequences for the step that comes."""
        decoding = [seq for seq in running if seq.num_computed + 1 == len(seq.token_ids)]
        least_share = self._least_share(decoding)
        for seq in decoding:
            guesser = self._guessers.setdefault(seq.seq_id, _Guesser())
            # The last token is sampled, so none may be guessed for the place after the end.
            room = min(MAX_DRAFTS, seq.max_len - len(seq.token_ids) - 1)
            guesser.guess = guesser.lookup.guess(seq.token_ids, max(0, room))
            num_drafts, expected = 0, guesser.share_right
            while num_drafts < len(guesser.guess) and expected > least_share:
                num_drafts += 1
                expected *= guesser.share_right
            seq.draft_token_ids = guesser.guess[:num_drafts]

    def learn(self, seq: LiveSequence, token_ids: Sequence[int], num_drafted: int) -> None:
        """A sequence went on with these tokens, in a step that verified so many drafts."""
        seq.draft_token_ids = ()
        self.num_drafted += num_drafted
        self.num_right += min(num_drafted, len(token_ids) - 1)
        guesser = self._guessers.get(seq.seq_id)
        if guesser is not None:
            guesser.learn(token_ids)

    def forget(self, seq: LiveSequence) -> None:
        """A sequence has ended."""
        self._guessers.pop(seq.seq_id, None)

    def _least_share(self, decoding: Sequence[LiveSequence]) -> float:
        """How likely a draft must be right to be worth its row.

        A row costs row_s; a token more is worth a sequence's share of the step, step_s / n.
        """
        if not decoding or not self._times.is_known:
            return 1.0
        num_seqs = len(decoding)
        pairs = sum(len(seq.token_ids) for seq in decoding)
        step_s = self._times.step_s(StepWork(num_decodes=num_seqs, num_decode_pairs=pairs))
        return _MARGIN * self._times.row_s * num_seqs / step_s if step_s > 0 else 1.0
