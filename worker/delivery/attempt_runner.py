"""Runs attempts: attach at the owner, feed the engine, stop in time."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import replace

from services.core.delivery import Attach, Attached, Gone
from services.core.errors import DeadlineExceeded, DependencyLost
from services.core.load import WorkerLoad
from services.core.request import (
    FinishReason,
    Submission,
    SubmissionOutcome,
    SubmissionResult,
)
from services.runtime.logs import bind_request, get_logger
from worker.cache.fetch import PrefixFetcher
from worker.delivery.attempts import Attempt, AttemptPhase, AttemptTable
from worker.delivery.gateway_streams import GatewayStreams
from worker.delivery.job import AdmissionRules, Job, seconds_left
from worker.engine.port import Engine, SequenceOutput, SequenceSpec
from worker.reports.load_signal import LoadSignal
from worker.reports.spans import RequestSpans

log = get_logger(__name__)


class AttemptRunner:
    """All attempts of this worker. Lives on the event loop.

    Args:
        attach_timeout_s: how long an owner may take to answer.
    """

    def __init__(
        self,
        engine: Engine,
        table: AttemptTable[Job],
        streams: GatewayStreams,
        fetcher: PrefixFetcher,
        rules: AdmissionRules,
        load_signal: LoadSignal,
        *,
        worker_id: str,
        attach_timeout_s: float,
    ) -> None:
        self._engine = engine
        self._table = table
        self._streams = streams
        self._fetcher = fetcher
        self._rules = rules
        self._load_signal = load_signal
        self._worker_id = worker_id
        self._attach_timeout_s = attach_timeout_s
        # Never used twice, so that a late message finds nobody rather than somebody else.
        self._handles = itertools.count(1)
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_draining = False

    async def submit(self, submission: Submission) -> SubmissionResult:
        """Takes an attempt; returns when it is attached, gone or refused.

        A caller that is cancelled leaves the attempt running: its owner knows of it. The same
        attempt again gets the same answer.
        """
        request = submission.request
        job = self._table.of_key(request.request_id, request.attempt)
        if job is None:
            refusal = self._rules.refusal(
                request, num_requests=len(self._table), is_draining=self.is_draining
            )
            if refusal is not None:
                return refusal
            job = self._start(submission)
        return await asyncio.shield(job.result)

    def load(self) -> WorkerLoad:
        """The engine's load, with what is here but not yet there."""
        load = self._engine.load()
        num_requests = len(self._table)
        num_running = min(load.num_running, num_requests)
        waiting = (job.attempt for job in self._table if not job.attempt.is_in_engine)
        num_waiting_tokens = sum(len(attempt.request.prompt_token_ids) for attempt in waiting)
        return replace(
            load,
            max_requests=self._rules.max_requests,
            num_running=num_running,
            num_waiting=num_requests - num_running,
            num_pending_prefill_tokens=load.num_pending_prefill_tokens + num_waiting_tokens,
        )

    def refuse_more(self) -> None:
        """From now on nothing new comes in."""
        self.is_draining = True

    async def drain(self, timeout_s: float) -> None:
        """Takes no more, lets running attempts finish, then stops the rest."""
        self.refuse_more()
        log.info("drain.started", num_requests=len(self._table))
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("drain.cut_off", num_requests=len(self._table))
        for job in self._table:
            self._stop(job)

    def finished(self, job: Job) -> None:
        """The engine has let go of it, and its last frame is on the way or held back."""
        if job.attempt.phase is AttemptPhase.ATTACHING and job.attaching is not None:
            # Its owner must get it all first.
            job.attaching.add_done_callback(lambda _: self._forget(job))
        else:
            self._forget(job)

    def on_cancel(self, handle: int) -> None:
        """The owner does not want it any more."""
        job = self._table.of_handle(handle)
        if job is not None:
            self._stop(job)

    def on_stream_lost(self, handles: frozenset[int]) -> None:
        """The owners run these elsewhere, or are gone."""
        for handle in handles:
            self.on_cancel(handle)

    def _start(self, submission: Submission) -> Job:
        loop = asyncio.get_running_loop()
        request = submission.request
        job = Job(
            attempt=Attempt(request, next(self._handles)),
            stream=self._streams.stream_to(request.reply_to, self),
            spans=RequestSpans(submission, worker_id=self._worker_id),
            result=loop.create_future(),
            delivered=loop.create_future(),
        )
        job.stream.handles.add(job.attempt.handle)
        self._table.add(job)
        self._idle.clear()
        if request.attempt == 1:
            # Nothing can have been delivered before the first attempt: prefill starts at once.
            job.delivered.set_result(())
        job.deadline = loop.call_later(seconds_left(request), self._stop, job)
        job.attaching = asyncio.create_task(self._attach(job), name=f"attach {job.attempt.seq_id}")
        job.feeding = asyncio.create_task(self._feed(job), name=f"feed {job.attempt.seq_id}")
        self._load_signal.changed()
        return job

    async def _attach(self, job: Job) -> None:
        request = job.attempt.request
        bind_request(request.request_id)
        job.spans.make_current()
        outcome, reason = SubmissionOutcome.OWNER_UNREACHABLE, "the worker failed"
        try:
            reply = await self._ask_owner(job)
            if isinstance(reply, Gone):
                outcome, reason = SubmissionOutcome.GONE, reply.reason
            else:
                outcome, reason = SubmissionOutcome.ACCEPTED, ""
                self._attached(job, reply)
        except DependencyLost as exc:
            reason = exc.message
        except DeadlineExceeded as exc:
            reason = exc.message
            if seconds_left(request) <= 0:
                outcome = SubmissionOutcome.GONE
            else:
                # It may still say yes, and would then wait for tokens that never come. Only this
                # attempt's: a busy owner is not a lost one, which the stream finds out by itself.
                job.stream.send([job.attempt.goodbye()])
        finally:
            job.spans.placed(outcome)
            if outcome is not SubmissionOutcome.ACCEPTED:
                self._stop(job)
            if not job.result.done():
                job.result.set_result(SubmissionResult(request.request_id, outcome, reason))
            log.info(
                "attempt.placed", attempt=request.attempt, outcome=outcome.value, reason=reason
            )

    async def _ask_owner(self, job: Job) -> Attached | Gone:
        request = job.attempt.request
        timeout_s = min(self._attach_timeout_s, max(0.001, seconds_left(request)))
        attach = Attach(job.attempt.handle, request.request_id, request.attempt)
        return await job.stream.attach(attach, timeout_s=timeout_s)

    def _attached(self, job: Job, reply: Attached) -> None:
        # A cancel, or the loss of the stream, may have come right behind the reply.
        if job.attempt.phase is not AttemptPhase.ATTACHING:
            return
        if not job.delivered.done():
            job.delivered.set_result(reply.delivered_token_ids)
        held_back = job.attempt.deliver()
        if held_back is not None:
            job.stream.send([held_back])

    async def _feed(self, job: Job) -> None:
        attempt = job.attempt
        request = attempt.request
        bind_request(request.request_id)
        job.spans.make_current()
        try:
            started = time.perf_counter()
            job.num_fetched_blocks = await self._fetcher.fetch(request, job.spans.context)
            job.fetch_s = time.perf_counter() - started
            delivered_token_ids = await job.delivered
            # No await between the two: whoever stops it sees that it is in the engine.
            attempt.is_in_engine = True
            job.spans.submitted()
            self._engine.submit(
                SequenceSpec(
                    seq_id=attempt.seq_id,
                    prompt_token_ids=request.prompt_token_ids,
                    sampling=request.sampling,
                    tenant=request.tenant,
                    delivered_token_ids=delivered_token_ids,
                    request_class=request.request_class,
                )
            )
        except Exception as exc:
            log.exception("attempt.failed")
            self._fail(job, f"the worker failed: {type(exc).__name__}")

    def _fail(self, job: Job, message: str) -> None:
        """Ends it as an engine would."""
        position = len(job.delivered.result()) if job.delivered.done() else 0
        output = SequenceOutput(
            job.attempt.seq_id, position, (), FinishReason.ERROR, error_message=message
        )
        delta = job.attempt.take(output)
        if delta is not None:
            job.stream.send([delta])
        job.spans.emitted(output, time.time_ns())
        self.finished(job)

    def _stop(self, job: Job) -> None:
        """Nobody waits for it: gives its blocks back within a step. Twice is safe."""
        if job.attempt.phase is AttemptPhase.STOPPED:
            return
        self._table.stop(job)
        self._streams.release(job.stream, job.attempt.handle)
        if job.attempt.is_in_engine:
            # It stays in the table until the engine has let go of it.
            self._engine.cancel(job.attempt.seq_id)
            return
        if job.feeding is not None:
            job.feeding.cancel()
        self._forget(job)

    def _forget(self, job: Job) -> None:
        if job.deadline is not None:
            job.deadline.cancel()
        self._streams.release(job.stream, job.attempt.handle)
        self._table.remove(job)
        job.spans.close()
        if not len(self._table):
            self._idle.set()
        self._load_signal.changed()
