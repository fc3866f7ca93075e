"""Spans of requests and steps. Contexts are explicit: the engine's thread has none."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context

from services.core.request import FinishReason, Submission, SubmissionOutcome
from services.runtime import names
from services.runtime.telemetry import context_of, tracer
from worker.engine.port import SequenceOutput, StepReport

MAX_STEP_LINKS = 128
_NO_PARENT = Context()


class StepPhase(enum.Enum):
    """What a step did for one request."""

    PREFILL = "prefill"
    DECODE = "decode"
    PREEMPTED = "preempted"


class RequestSpans:
    """`worker.request` of one attempt, with prefill and decode below it."""

    def __init__(self, submission: Submission, *, worker_id: str) -> None:
        request = submission.request
        parent = context_of(submission.trace)
        self.request: Span = tracer.start_span(
            names.SPAN_WORKER_REQUEST,
            parent,
            SpanKind.INTERNAL,
            {
                names.REQUEST_ID: request.request_id,
                names.ATTEMPT: request.attempt,
                names.WORKER_ID: worker_id,
                names.GEN_AI_REQUEST_MODEL: request.model,
                names.GEN_AI_USAGE_INPUT_TOKENS: len(request.prompt_token_ids),
            },
        )
        self.context: Context = set_span_in_context(self.request, parent)
        # Of nearly every step that it is in: made once.
        self._decode_link = _link(self.request, StepPhase.DECODE, 1)
        self._prefill: Span | None = None
        self._decode: Span | None = None
        self._num_prefill_tokens = 0
        self._num_output_tokens = 0
        self._num_steps = 0
        self._num_preemptions = 0
        self._cached_tokens = 0
        self._finish_reason: FinishReason | None = None
        self._finished_ns = 0
        self._placed_ns = 0
        self._closed = False

    def link(self, phase: StepPhase, num_tokens: int) -> Link:
        """From a step to this request; num_tokens: its own, 0 if it was preempted."""
        if phase is StepPhase.DECODE and num_tokens == 1:
            return self._decode_link
        return _link(self.request, phase, num_tokens)

    def make_current(self) -> None:
        """For the rest of a task of this request: its log lines bear these ids.

        Never detached: a task's context ends with it.
        """
        otel_context.attach(self.context)

    def placed(self, outcome: SubmissionOutcome) -> None:
        """The attach is over."""
        self._placed_ns = time.time_ns()
        self.request.set_attribute(names.OUTCOME, outcome.value)

    def submitted(self) -> None:
        """The engine has the sequence."""
        self._prefill = tracer.start_span(
            names.SPAN_ENGINE_PREFILL, self.context, start_time=time.time_ns()
        )

    def preempted(self) -> None:
        """The sequence gave up its blocks."""
        self._num_preemptions += 1

    def stepped(self, prefill_tokens: int) -> None:
        """The sequence was part of a step; prefill_tokens of its prompt were computed in it."""
        self._num_steps += 1
        if self._decode is None:
            self._num_prefill_tokens += prefill_tokens

    def went_on(self) -> None:
        """The sequence has one more token, not its first nor its last."""
        self._num_output_tokens += 1

    def emitted(self, output: SequenceOutput, ended_ns: int) -> None:
        """The sequence has news."""
        self._num_output_tokens += len(output.token_ids)
        self._cached_tokens = max(self._cached_tokens, output.cached_tokens)
        if output.token_ids and self._prefill is not None:
            self._end_prefill(ended_ns)
            if output.finish_reason is None:
                self._decode = tracer.start_span(
                    names.SPAN_ENGINE_DECODE, self.context, start_time=ended_ns
                )
        if output.finish_reason is not None:
            self._finish(output.finish_reason, ended_ns)

    def close(self) -> None:
        """Nothing more will come: neither from the engine nor from the owner. Twice is safe."""
        if self._closed:
            return
        self._closed = True
        if self._finish_reason is None:
            self._finish(FinishReason.CANCELLED, time.time_ns())
        assert self._finish_reason is not None
        self.request.set_attributes(
            {
                names.GEN_AI_USAGE_OUTPUT_TOKENS: self._num_output_tokens,
                names.GEN_AI_USAGE_CACHED_TOKENS: self._cached_tokens,
                names.GEN_AI_RESPONSE_FINISH_REASONS: (self._finish_reason.value,),
            }
        )
        if self._finish_reason is FinishReason.ERROR:
            self.request.set_attribute(names.ERROR_TYPE, self._finish_reason.value)
            self.request.set_status(Status(StatusCode.ERROR))
        # A short answer may be computed before its owner has answered.
        self.request.end(max(self._finished_ns, self._placed_ns))

    def _finish(self, reason: FinishReason, ended_ns: int) -> None:
        self._finish_reason = reason
        self._finished_ns = ended_ns
        if self._prefill is not None:
            self._end_prefill(ended_ns)
        if self._decode is not None:
            self._decode.set_attributes(
                {
                    names.NUM_TOKENS: max(0, self._num_output_tokens - 1),
                    names.NUM_STEPS: self._num_steps,
                    names.NUM_PREEMPTIONS: self._num_preemptions,
                }
            )
            self._decode.end(ended_ns)

    def _end_prefill(self, ended_ns: int) -> None:
        assert self._prefill is not None
        self._prefill.set_attributes(
            {
                names.NUM_TOKENS: self._num_prefill_tokens,
                names.GEN_AI_USAGE_CACHED_TOKENS: self._cached_tokens,
                names.NUM_STEPS: self._num_steps,
            }
        )
        self._prefill.end(ended_ns)
        self._prefill = None
        self._num_steps = 0


def trace_step(report: StepReport, links: Sequence[Link]) -> None:
    """One root span for a step, with links to the requests in it that say what it did for each."""
    num_seqs = len(report.prefill_tokens_by_seq) + len(report.decode_seq_ids)
    num_prefill_tokens = sum(report.prefill_tokens_by_seq.values())
    tracer.start_span(
        names.SPAN_ENGINE_STEP,
        _NO_PARENT,
        links=links[:MAX_STEP_LINKS],
        attributes={
            names.BATCH_SIZE: num_seqs,
            names.NUM_TOKENS: num_prefill_tokens + len(report.decode_seq_ids),
            names.NUM_PREFILL_TOKENS: num_prefill_tokens,
            names.NUM_PREEMPTIONS: len(report.preempted_seq_ids),
        },
        start_time=report.started_ns,
    ).end(report.ended_ns)


def _link(span: Span, phase: StepPhase, num_tokens: int) -> Link:
    attributes = {names.STEP_PHASE: phase.value, names.NUM_TOKENS: num_tokens}
    return Link(span.get_span_context(), attributes)
