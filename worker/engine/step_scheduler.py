"""Which tokens the next step computes.

A step has one token budget. Running sequences come first, decodes before prefills, so that no
prompt stalls an answer; then waiting sequences are admitted in order of arrival. A prompt may be
spread over steps (chunked prefill). When blocks run out, the latest arrival gives up its own and
recomputes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from worker.engine.block_pool import BlockPool, NoRoom, PrefixHit
from worker.engine.sequence import LiveSequence, SequenceStatus

_MAX_PROMPT_LOGPROBS = 128
"""Prompt tokens in a step whose likelihood is asked for: each needs a row of the vocabulary."""


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """What one step may hold.

    Attributes:
        watermark_blocks: blocks kept free at admission while others run, so that they can grow.
    """

    block_size: int
    max_num_seqs: int
    max_batched_tokens: int
    watermark_blocks: int = 1


@dataclass(frozen=True, slots=True)
class SequenceSlice:
    """Consecutive tokens of one sequence to compute in a step.

    Attributes:
        start: index of the first token in the sequence.
        is_prefill: prompt tokens. An output token is always computed alone, whether it is decoded,
            resumed or recomputed, so that its K/V comes from the same shapes each time.
        samples: the last token's logits choose the next token.
    """

    seq: LiveSequence
    start: int
    num_tokens: int
    is_prefill: bool
    samples: bool

    @property
    def next_prompt_token_ids(self) -> Sequence[int]:
        """Prompt tokens that follow the slice's: what its logits tell the likelihood of."""
        end = min(self.start + self.num_tokens + 1, self.seq.num_prompt)
        return self.seq.token_ids[self.start + 1 : end]


@dataclass(slots=True)
class StepPlan:
    """The work of one step."""

    slices: list[SequenceSlice] = field(default_factory=list[SequenceSlice])
    preempted: list[LiveSequence] = field(default_factory=list[LiveSequence])


class StepScheduler:
    """Waiting and running sequences of one engine; owns their block tables."""

    def __init__(self, pool: BlockPool, limits: SchedulerLimits) -> None:
        self._pool = pool
        self._limits = limits
        self._waiting: deque[LiveSequence] = deque()
        self._running: list[LiveSequence] = []

    @property
    def num_running(self) -> int:
        """Sequences that hold blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Sequences not yet, or no longer, running."""
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        """Whether a step would compute something."""
        return bool(self._running or self._waiting)

    def live(self) -> list[LiveSequence]:
        """All sequences, running ones first."""
        return [*self._running, *self._waiting]

    def add(self, seq: LiveSequence) -> None:
        """Queues a sequence whose tokens fit the pool when it is alone."""
        self._waiting.append(seq)

    def remove(self, seq: LiveSequence) -> None:
        """Forgets a sequence, wherever it is, and lets go of its blocks."""
        if seq.status is SequenceStatus.RUNNING:
            self._running.remove(seq)
        elif seq.status is SequenceStatus.WAITING:
            self._waiting.remove(seq)
        self._release(seq)
        seq.status = SequenceStatus.FINISHED

    def schedule(self) -> StepPlan:
        """Plans the next step and holds the blocks that it writes."""
        plan = StepPlan()
        budget = self._plan_decodes(plan)
        for seq in self._running:
            if seq.is_prefilling and budget > 0:
                budget -= self._plan_prefill(plan, seq, budget)
        # A step that had to preempt has no room for newcomers.
        while not plan.preempted and budget > 0 and self._admit_next():
            seq = self._running[-1]
            if seq.is_prefilling:
                budget -= self._plan_prefill(plan, seq, budget)
            else:
                plan.slices.append(_decode_slice(seq))
                budget -= 1
        return plan

    def commit(self, done: SequenceSlice) -> None:
        """Takes note that a slice was computed; full blocks become findable."""
        seq, block_size = done.seq, self._limits.block_size
        first_full = seq.num_computed // block_size
        seq.num_computed = done.start + done.num_tokens
        num_full = seq.num_computed // block_size
        hashes = seq.hashes(num_full, block_size)
        for block_idx in range(first_full, num_full):
            self._pool.remember(seq.block_table[block_idx], hashes[block_idx])
            seq.fresh_hashes.add(hashes[block_idx])

    def _plan_decodes(self, plan: StepPlan) -> int:
        """Plans one token for every running sequence past its prompt; returns the budget left."""
        for seq in list(self._running):
            if seq.status is not SequenceStatus.RUNNING or seq.is_prefilling:
                continue
            if self._grow(plan, seq):
                plan.slices.append(_decode_slice(seq))
        return self._limits.max_batched_tokens - len(plan.slices)

    def _grow(self, plan: StepPlan, seq: LiveSequence) -> bool:
        """Makes room for the next token, preempting others; False if it was itself preempted."""
        while seq.num_computed >= len(seq.block_table) * self._limits.block_size:
            block_ids = self._pool.allocate(PrefixHit(), 1)
            if not isinstance(block_ids, NoRoom):
                seq.block_table.extend(block_ids)
                continue
            # The latest arrival, so that the oldest always advances and nobody starves.
            victim = max(self._running, key=lambda running: running.arrival_idx)
            self._preempt(plan, victim)
            if victim is seq:
                return False
        return True

    def _preempt(self, plan: StepPlan, victim: LiveSequence) -> None:
        plan.slices = [planned for planned in plan.slices if planned.seq is not victim]
        self._running.remove(victim)
        # Its full blocks stay findable: usually most of the prefix is hit again.
        self._release(victim)
        victim.num_computed = 0
        victim.status = SequenceStatus.WAITING
        self._waiting.appendleft(victim)
        plan.preempted.append(victim)

    def _plan_prefill(self, plan: StepPlan, seq: LiveSequence, budget: int) -> int:
        """Plans the next chunk of a prompt; returns its tokens."""
        block_size = self._limits.block_size
        num_tokens = min(seq.num_prompt - seq.num_computed, budget)
        if seq.wants_prompt_logprobs:
            num_tokens = min(num_tokens, _MAX_PROMPT_LOGPROBS)
        end = seq.num_computed + num_tokens
        if end < seq.num_prompt:
            # A chunk that ends with a block lets the next one start with a whole tile of attention.
            aligned = end - end % block_size
            if aligned > seq.num_computed:
                num_tokens = aligned - seq.num_computed
        end = seq.num_computed + num_tokens
        plan.slices.append(
            SequenceSlice(
                seq,
                seq.num_computed,
                num_tokens,
                is_prefill=True,
                samples=end == len(seq.token_ids),
            )
        )
        return num_tokens

    def _admit_next(self) -> bool:
        """Moves the first waiting sequence to running if all its tokens fit."""
        if not self._waiting or len(self._running) >= self._limits.max_num_seqs:
            return False
        seq, block_size = self._waiting[0], self._limits.block_size
        num_tokens = len(seq.token_ids)
        # At least one token must be computed: its logits are needed.
        hit = self._pool.match(seq.hashes((num_tokens - 1) // block_size, block_size))
        if seq.wants_prompt_logprobs:
            # What is found is not computed, so nothing would be known of its likelihood.
            hit, seq.prompt_logprobs = PrefixHit(), []
        num_new = -(-num_tokens // block_size) - len(hit.block_ids)
        watermark = self._limits.watermark_blocks if self._running else 0
        if self._pool.num_available(hit) < num_new + watermark:
            return False
        block_ids = self._pool.allocate(hit, num_new)
        assert not isinstance(block_ids, NoRoom), "num_available promised these blocks"
        self._waiting.popleft()
        self._running.append(seq)
        seq.status = SequenceStatus.RUNNING
        seq.block_table = list(block_ids)
        seq.num_computed = len(hit.block_ids) * block_size
        if not seq.was_admitted:
            seq.was_admitted = True
            seq.cached_tokens = min(seq.num_computed, seq.num_prompt)
        return True

    def _release(self, seq: LiveSequence) -> None:
        self._pool.release(seq.block_table)
        seq.block_table = []


def _decode_slice(seq: LiveSequence) -> SequenceSlice:
    return SequenceSlice(
        seq,
        seq.num_computed,
        1,
        is_prefill=False,
        samples=seq.num_computed + 1 == len(seq.token_ids),
    )
