"""Which tokens the next step computes.

A step has one token budget. Running sequences come first, decodes before prefills, so that no
prompt stalls an answer; then waiting sequences are admitted, by class and then by arrival. A prompt
may be spread over steps (chunked prefill). When blocks run out, or a more urgent class has no
place, somebody gives up its own and recomputes: of the least urgent class the one that loses least
by it, never the most urgent sequence of all, so that there is always one that advances.
"""

from __future__ import annotations

from services.core.blocks import BlockHash
from worker.engine.block_exports import BlockExports
from worker.engine.block_pool import BlockPool, NoRoom, PrefixHit
from worker.engine.prefix_lookup import PrefixLookup
from worker.engine.sequence import LiveSequence, SequenceStatus
from worker.engine.step_limits import PrefillLimit, SchedulerLimits
from worker.engine.step_plan import SequenceSlice, StepPlan
from worker.engine.victim import choose_victim
from worker.engine.waiting_line import WaitingLine, rank_of, urgency_of

_MAX_PROMPT_LOGPROBS = 128
"""Prompt tokens in a step whose likelihood is asked for: each needs a row of the vocabulary."""


class StepScheduler:
    """Waiting and running sequences of one engine; owns their block tables.

    Args:
        pool: the blocks.
        limits: of every step.
        prefill_limit: asked in each step that decodes; None leaves it to the limits.
        exports: hears of blocks that were computed, and of sequences that give up theirs.
    """

    def __init__(
        self,
        pool: BlockPool,
        limits: SchedulerLimits,
        prefill_limit: PrefillLimit | None = None,
        exports: BlockExports | None = None,
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._prefill_limit = prefill_limit
        self._exports = exports
        self._prefixes = PrefixLookup(pool, limits.block_size)
        self._waiting = WaitingLine()
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

    def running(self) -> list[LiveSequence]:
        """Sequences that hold blocks."""
        return list(self._running)

    def live(self) -> list[LiveSequence]:
        """All sequences, running ones first."""
        return [*self._running, *self._waiting]

    def add(self, seq: LiveSequence) -> None:
        """Queues a sequence whose tokens fit the pool when it is alone."""
        self._waiting.add(seq)

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
        for seq in sorted(self._running, key=urgency_of):
            if seq.status is SequenceStatus.RUNNING and not seq.is_prefilling:
                self._plan_decode(plan, seq)
        # A step that had to preempt for blocks has no room for newcomers.
        may_admit = not plan.preempted
        if may_admit:
            self._make_way(plan)
        room = self._limits.max_batched_tokens - plan.num_tokens
        if self._prefill_limit is not None and plan.slices:
            room = min(room, self._prefill_limit(plan.work))
        for seq in sorted(self._running, key=urgency_of):
            if seq.is_prefilling and room > 0:
                room -= self._plan_prefill(plan, seq, room)
        if may_admit:
            self._admit(plan, room)
        return plan

    def commit(self, done: SequenceSlice) -> None:
        """Takes note that a slice was computed; full blocks become findable.

        Args:
            done: as it counts: drafts that were wrong are not part of it, and those that were
                right are tokens of the sequence already.
        """
        seq, block_size = done.seq, self._limits.block_size
        first_full = seq.num_computed // block_size
        seq.num_computed = done.start + done.num_tokens
        num_full = seq.num_computed // block_size
        if num_full == first_full:
            return
        hashes = seq.hashes(num_full, block_size)
        for block_idx in range(first_full, num_full):
            is_first = self._pool.remember(seq.block_table[block_idx], hashes[block_idx])
            if is_first and self._exports is not None:
                self._exports.computed(seq, block_idx)

    def _plan_decode(self, plan: StepPlan, seq: LiveSequence) -> None:
        """Plans the last token of a sequence past its prompt with drafts, or what it recomputes."""
        start = seq.num_computed
        num_left = len(seq.token_ids) - start
        has_room = start < len(seq.block_table) * self._limits.block_size
        if num_left == 1 and has_room and not seq.draft_token_ids:
            # Nearly all of them, so nothing else is asked.
            plan.add(SequenceSlice(seq, start, 1, is_prefill=False, samples=True))
            return
        if not self._grow(plan, seq, start + 1):
            return
        drafts = seq.draft_token_ids if num_left == 1 else ()
        # Everybody else's one token comes first.
        room = self._limits.max_batched_tokens - self._limits.max_num_seqs
        room -= plan.num_tokens - len(plan.slices)
        num_more = min(num_left - 1 + len(drafts), max(0, room))
        num_tokens = 1 + self._hold_more(seq, num_more)
        drafts = drafts[: num_tokens - 1]
        plan.add(
            SequenceSlice(
                seq,
                seq.num_computed,
                num_tokens,
                is_prefill=False,
                samples=num_tokens >= num_left,
                draft_token_ids=drafts,
            )
        )

    def _grow(self, plan: StepPlan, seq: LiveSequence, num_tokens: int) -> bool:
        """Makes room for a sequence's tokens; False if it was itself preempted for it."""
        while num_tokens > len(seq.block_table) * self._limits.block_size:
            block_ids = self._pool.allocate(PrefixHit(), 1)
            if not isinstance(block_ids, NoRoom):
                seq.block_table.extend(block_ids)
                continue
            victim = choose_victim(self._running, self._pool, self._limits.block_size)
            self._preempt(plan, victim)
            if victim is seq:
                return False
        return True

    def _hold_more(self, seq: LiveSequence, num_more: int) -> int:
        """As many of these tokens after the next as there are free blocks for: no preemption."""
        block_size = self._limits.block_size
        wanted = -(-(seq.num_computed + 1 + num_more) // block_size) - len(seq.block_table)
        if wanted > 0:
            num_free = max(0, self._pool.num_free - self._limits.watermark_blocks)
            block_ids = self._pool.allocate(PrefixHit(), min(wanted, num_free))
            assert not isinstance(block_ids, NoRoom), "these blocks are free"
            seq.block_table.extend(block_ids)
        return min(num_more, len(seq.block_table) * block_size - seq.num_computed - 1)

    def _preempt(self, plan: StepPlan, victim: LiveSequence) -> None:
        plan.preempt(victim)
        self._running.remove(victim)
        # Its full blocks stay findable: usually most of the prefix is hit again.
        self._release(victim)
        victim.num_computed = 0
        victim.status = SequenceStatus.WAITING
        self._waiting.add(victim)

    def _plan_prefill(self, plan: StepPlan, seq: LiveSequence, room: int) -> int:
        """Plans the next chunk of a prompt; returns its tokens."""
        block_size = self._limits.block_size
        num_tokens = min(seq.num_prompt - seq.num_computed, room)
        if seq.wants_prompt_logprobs:
            num_tokens = min(num_tokens, _MAX_PROMPT_LOGPROBS)
        end = seq.num_computed + num_tokens
        if end < seq.num_prompt:
            # A chunk that ends with a block lets the next one start with a whole tile of attention.
            aligned = end - end % block_size
            if aligned > seq.num_computed:
                num_tokens = aligned - seq.num_computed
        end = seq.num_computed + num_tokens
        plan.add(
            SequenceSlice(
                seq,
                seq.num_computed,
                num_tokens,
                is_prefill=True,
                samples=end == len(seq.token_ids),
            )
        )
        return num_tokens

    def _make_way(self, plan: StepPlan) -> None:
        """Preempts less urgent classes for the first in line, if it could then be admitted."""
        first = next(iter(self._waiting), None)
        if first is None or self._has_place(first):
            return
        rank = rank_of(first)
        num_less_urgent = sum(rank_of(seq) > rank for seq in self._running)
        num_held = sum(len(seq.block_table) for seq in self._running if rank_of(seq) > rank)
        need = self._prefixes.need_of(first)
        if self._pool.num_available(need.hit) + num_held < need.num_new:
            return
        while num_less_urgent and not self._has_place(first):
            victim = choose_victim(
                self._running, self._pool, self._limits.block_size, least_rank=rank + 1
            )
            self._preempt(plan, victim)
            num_less_urgent -= 1

    def _admit(self, plan: StepPlan, room: int) -> None:
        """Starts waiting sequences while they fit, nobody overtaking who waits for room."""
        pending = self._pending_hashes()
        for seq in self._waiting:
            if room <= 0 or seq in plan.preempted:
                return
            if self._prefixes.is_being_computed(seq, pending):
                # In a step or two its prefix is there: computing it here too would gain nothing.
                continue
            if not self._has_place(seq):
                return
            self._start(seq)
            if seq.is_prefilling:
                room -= self._plan_prefill(plan, seq, room)
                pending.update(self._prefixes.uncomputed_hashes(seq))
            else:
                self._plan_decode(plan, seq)
                room -= plan.slices[-1].num_tokens

    def _start(self, seq: LiveSequence) -> None:
        """Moves a waiting sequence that has a place to the running ones."""
        need = self._prefixes.need_of(seq)
        block_ids = self._pool.allocate(need.hit, need.num_new)
        assert not isinstance(block_ids, NoRoom), "there was a place"
        self._waiting.remove(seq)
        self._running.append(seq)
        seq.status = SequenceStatus.RUNNING
        seq.block_table = list(block_ids)
        seq.num_computed = len(need.hit.block_ids) * self._limits.block_size
        seq.prompt_logprobs = []
        if not seq.was_admitted:
            seq.was_admitted = True
            seq.cached_tokens = min(seq.num_computed, seq.num_prompt)

    def _has_place(self, seq: LiveSequence) -> bool:
        """Whether all tokens of a waiting sequence fit now."""
        if len(self._running) >= self._limits.max_num_seqs:
            return False
        need = self._prefixes.need_of(seq)
        watermark = self._limits.watermark_blocks if self._running else 0
        return self._pool.num_available(need.hit) >= need.num_new + watermark

    def _pending_hashes(self) -> set[BlockHash]:
        """Blocks that the running prefills will have computed soon."""
        pending: set[BlockHash] = set()
        if len(self._waiting):
            for seq in self._running:
                if seq.is_prefilling:
                    pending.update(self._prefixes.uncomputed_hashes(seq))
        return pending

    def _release(self, seq: LiveSequence) -> None:
        if self._exports is not None:
            self._exports.let_go(seq)
        self._pool.release(seq.block_table)
        seq.block_table = []
