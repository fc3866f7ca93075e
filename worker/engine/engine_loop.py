"""The step loop: commands in, steps run, news out. The same loop serves every runner."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog

from services.core.block_names import BlockNames
from services.core.blocks import BlockHash, BlockLayout, BlockPayload
from services.core.load import WorkerLoad
from services.core.request import FinishReason
from worker.engine.block_exports import BlockExports
from worker.engine.block_import import import_into_pool
from worker.engine.block_pool import BlockPool, PoolListener
from worker.engine.inbox import Cancel, Command, ImportBlocks, Inbox
from worker.engine.outputs import output_of, take_tokens
from worker.engine.port import EngineListener, SequenceOutput, SequenceSpec
from worker.engine.prefill_pace import PrefillPace
from worker.engine.runner import NO_TOKENS, SampledTokens, StepRunner
from worker.engine.sequence import LiveSequence
from worker.engine.settings import EngineSettings
from worker.engine.spec_check import find_fault
from worker.engine.speculation.speculator import Speculator
from worker.engine.step_guard import run_guarded
from worker.engine.step_limits import SchedulerLimits
from worker.engine.step_plan import SequenceSlice, StepPlan
from worker.engine.step_scheduler import StepScheduler
from worker.engine.step_times import StepTimes
from worker.engine.teller import Teller

log = structlog.get_logger(__name__)

_WATERMARK_SHARE = 100
"""One block in so many stays free at admission."""


class LoopEngine:
    """`worker.engine.port.Engine` over a StepRunner.

    Everything but the commands and `names` is touched by the engine's thread alone. Other threads
    read counts, which may be a step old.
    """

    def __init__(self, runner: StepRunner, settings: EngineSettings) -> None:
        self._runner = runner
        self._settings = settings
        self._layout = runner.layout
        self.names = BlockNames(runner.model_revision, self._layout.text(), self._layout.block_size)
        # A sequence alone on the engine must always fit, or it would preempt itself for ever.
        self._max_model_len = min(runner.max_model_len, runner.num_blocks * self._layout.block_size)
        self._teller = Teller()
        self._exports = BlockExports(runner, self._teller.tell_blocks, self._teller.has_room)
        self._pool_listeners: list[PoolListener] = [self._exports]
        self._pool = self._new_pool()
        self._times = StepTimes()
        self._speculator = Speculator(self._times) if settings.speculation == "ngram" else None
        self._scheduler = self._new_scheduler()
        self._inbox = Inbox()
        self._live: dict[str, LiveSequence] = {}
        self._num_accepted = 0
        self._waiting_since: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def layout(self) -> BlockLayout:
        """Layout of the K/V blocks."""
        return self._layout

    @property
    def model_revision(self) -> str:
        """Digest of the weights; part of the root of every block hash."""
        return self._runner.model_revision

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus answer that this engine takes."""
        return self._max_model_len

    def watch_blocks(self, listener: PoolListener) -> None:
        """Tells a listener which blocks a prefix can hit. Once, before start."""
        assert self._thread is None, "the engine runs already"
        self._pool_listeners.append(listener)
        self._pool = self._new_pool()
        self._scheduler = self._new_scheduler()

    def start(self, listener: EngineListener) -> None:
        """Starts the thread. Once."""
        assert self._thread is None, "an engine starts once"
        self._teller.listener = listener
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    def submit(self, spec: SequenceSpec) -> None:
        """Queues a sequence. An impossible one ends with FinishReason.ERROR."""
        self._put(spec)

    def cancel(self, seq_id: str) -> None:
        """Frees the sequence's blocks before the next step; reports CANCELLED."""
        self._put(Cancel(seq_id))

    def import_blocks(self, blocks: Sequence[BlockPayload]) -> None:
        """Adds verified blocks to the pool, before sequences submitted later are admitted."""
        self._put(ImportBlocks(blocks))

    def num_missing_blocks(self, hashes: Sequence[BlockHash]) -> int:
        """How many of these leading blocks the pool does not hold."""
        return len(hashes) - len(self._pool.match(hashes).block_ids)

    def load(self) -> WorkerLoad:
        """How busy the engine is now."""
        queued = self._inbox.waiting_specs()
        # One step of the interpreter, so no lock: a dict that grows under an iteration would raise.
        live = list(self._live.values())
        num_running = self._scheduler.num_running
        num_queued_tokens = sum(len(spec.prompt_token_ids) for spec in queued)
        return WorkerLoad(
            max_requests=self._settings.max_num_seqs,
            num_running=num_running,
            num_waiting=max(0, len(live) + len(queued) - num_running),
            num_free_blocks=self._pool.num_free,
            num_blocks=self._pool.num_blocks,
            block_size=self._layout.block_size,
            num_pending_prefill_tokens=num_queued_tokens + sum(s.num_pending_prefill for s in live),
            max_running=self._settings.max_num_seqs,
        )

    def seconds_since_progress(self) -> float:
        """Seconds since the last step ended while work was waiting; 0 when idle."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def stop(self) -> None:
        """Ends the thread after the current step. Twice is safe."""
        self._inbox.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _put(self, command: Command) -> None:
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        self._inbox.put(command)

    def _rest(self) -> None:
        self._waiting_since = None

    def _loop(self) -> None:
        while True:
            commands = self._inbox.take(wait=not self._scheduler.has_work, on_idle=self._rest)
            if commands is None:
                return
            if self._waiting_since is None:
                # A command can slip in between a put's look at the clock and our going to rest.
                self._waiting_since = time.monotonic()
            started_ns = time.time_ns()
            outputs: list[SequenceOutput] = []
            plan = StepPlan()
            try:
                for command in commands:
                    self._apply(command, outputs)
                plan = self._step(outputs)
            except Exception:
                # A bug in the books: no block can be trusted any more, but new requests can run.
                log.exception("engine.books_lost")
                self._fail_everything(outputs)
            self._waiting_since = time.monotonic()
            self._exports.tell_evicted()
            if outputs or plan.slices:
                self._teller.tell_step(started_ns, plan, outputs)

    def _apply(self, command: Command, outputs: list[SequenceOutput]) -> None:
        match command:
            case Cancel(seq_id):
                seq = self._live.get(seq_id)
                if seq is not None:
                    self._finish(seq, outputs, FinishReason.CANCELLED)
            case ImportBlocks(blocks):
                import_into_pool(self._pool, self._runner, blocks)
            case SequenceSpec():
                self._accept(command, outputs)

    def _accept(self, spec: SequenceSpec, outputs: list[SequenceOutput]) -> None:
        fault = find_fault(
            spec, vocab_size=self._runner.vocab_size, max_model_len=self._max_model_len
        )
        if fault is None and spec.seq_id in self._live:
            # Reported without an output: one under this id would end the other sequence.
            log.error("sequence.refused", seq_id=spec.seq_id, fault="seq_id is live already")
            return
        if fault is not None:
            position = len(spec.delivered_token_ids)
            outputs.append(
                SequenceOutput(spec.seq_id, position, (), FinishReason.ERROR, error_message=fault)
            )
            return
        seq = LiveSequence(
            spec,
            arrival_idx=self._num_accepted,
            root=self.names.root_of(spec.tenant),
            public=self.names.public,
            max_model_len=self._max_model_len,
        )
        self._num_accepted += 1
        self._live[seq.seq_id] = seq
        self._scheduler.add(seq)
        reason = seq.finish_reason(self._runner.eos_token_ids)
        if reason is not None:
            # The attempt before this one was lost between its last token and its goodbye.
            self._finish(seq, outputs, reason)

    def _step(self, outputs: list[SequenceOutput]) -> StepPlan:
        if not self._scheduler.has_work:
            return StepPlan()
        if self._speculator is not None:
            self._speculator.propose(self._scheduler.running())
        plan = self._scheduler.schedule()
        assert plan.slices, "a sequence that fits when alone is always scheduled"
        started_s = time.perf_counter()
        result = run_guarded(self._runner, plan.slices)
        self._times.add(plan.work, time.perf_counter() - started_s)
        for done in plan.slices:
            seq = done.seq
            error = result.errors.get(seq.seq_id)
            if error is not None:
                self._finish(seq, outputs, FinishReason.ERROR, error)
                continue
            seq.prompt_logprobs.extend(result.prompt_logprobs.get(seq.seq_id, ()))
            if done.samples:
                self._go_on(done, result.tokens[seq.seq_id], outputs)
            else:
                self._scheduler.commit(done)
        return plan

    def _go_on(
        self, done: SequenceSlice, sampled: SampledTokens, outputs: list[SequenceOutput]
    ) -> None:
        """Adds a step's tokens to a sequence, as far as its end."""
        seq = done.seq
        taken, reason = take_tokens(seq, sampled, self._runner.eos_token_ids)
        num_drafted = len(done.draft_token_ids)
        num_right = min(num_drafted, len(taken.token_ids) - 1)
        self._scheduler.commit(done.without_drafts(num_drafted - num_right))
        if self._speculator is not None:
            self._speculator.learn(seq, taken.token_ids, num_drafted)
        if reason is None:
            outputs.append(output_of(seq, taken))
        else:
            self._finish(seq, outputs, reason, taken=taken)

    def _finish(
        self,
        seq: LiveSequence,
        outputs: list[SequenceOutput],
        reason: FinishReason,
        error_message: str = "",
        *,
        taken: SampledTokens = NO_TOKENS,
    ) -> None:
        if reason is FinishReason.ERROR:
            self._exports.distrust(seq)
        self._scheduler.remove(seq)
        if self._speculator is not None:
            self._speculator.forget(seq)
        del self._live[seq.seq_id]
        outputs.append(output_of(seq, taken, reason, error_message))

    def _fail_everything(self, outputs: list[SequenceOutput]) -> None:
        for seq in list(self._live.values()):
            outputs.append(
                output_of(seq, NO_TOKENS, FinishReason.ERROR, "the engine lost its books")
            )
        self._live.clear()
        self._exports.forget_all()
        self._pool.forget_all()
        self._pool = self._new_pool()
        self._scheduler = self._new_scheduler()

    def _new_pool(self) -> BlockPool:
        remembers = self._settings.prefix_cache
        return BlockPool(self._runner.num_blocks, *self._pool_listeners, remembers=remembers)

    def _new_scheduler(self) -> StepScheduler:
        limits = SchedulerLimits(
            block_size=self._layout.block_size,
            max_num_seqs=self._settings.max_num_seqs,
            max_batched_tokens=self._settings.max_batched_tokens,
            watermark_blocks=max(1, self._pool.num_blocks // _WATERMARK_SHARE),
        )
        pace = PrefillPace(
            self._times,
            itl_target_s=self._settings.itl_target_ms / 1000,
            max_tokens=self._settings.max_batched_tokens,
            min_tokens=self._layout.block_size,
        )
        return StepScheduler(self._pool, limits, pace.max_prefill_tokens, self._exports)
