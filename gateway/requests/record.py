"""What is told of one answer: its span, its metrics, its log line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from opentelemetry.trace import Span, SpanKind, StatusCode

from gateway import metrics
from gateway.ask import Ask
from gateway.live_view.recent import RECENT
from gateway.requests.answer_times import AnswerTimes
from gateway.requests.live_request import LiveRequest
from gateway.vllm_metrics import VllmMetrics
from services.core.errors import Overloaded, TokenmillError
from services.core.request import FinishReason, Usage
from services.runtime import names
from services.runtime.bounded_label import TENANT_LABEL
from services.runtime.logs import get_logger
from services.runtime.metrics import exemplar
from services.runtime.telemetry import tracer
from services.wire.errors import row_of

log = get_logger(__name__)


class AnswerRecord:
    """Starts an INTERNAL span under the door's; `end` ends it, whatever happened."""

    def __init__(self, ask: Ask, *, model: str) -> None:
        self._started_s = time.perf_counter()
        self._first_token_s: float | None = None
        self._labels = (ask.operation.value, names.GEN_AI_PROVIDER, model)
        self._tenant = TENANT_LABEL.of(ask.tenant)
        self._vllm = VllmMetrics(model)
        self._usage: Usage | None = None
        self._error: BaseException | None = None
        self._finish_reason = ""
        self.lives: Sequence[LiveRequest] = ()
        self.times = AnswerTimes(self._vllm.gap)
        self.span: Span = tracer.start_span(
            f"{ask.operation} {model}",
            kind=SpanKind.INTERNAL,
            attributes={
                names.REQUEST_ID: ask.request_id,
                names.REQUEST_CLASS: ask.request_class.value,
                names.GEN_AI_OPERATION_NAME: ask.operation.value,
                names.GEN_AI_PROVIDER_NAME: names.GEN_AI_PROVIDER,
                names.GEN_AI_REQUEST_MODEL: model,
                names.GEN_AI_REQUEST_STREAM: ask.stream,
                names.GEN_AI_REQUEST_TEMPERATURE: ask.sampling.temperature,
                names.GEN_AI_REQUEST_TOP_P: ask.sampling.top_p,
                names.GEN_AI_REQUEST_TOP_K: ask.sampling.top_k,
            },
        )
        if ask.session_id:
            self.span.set_attribute(names.GEN_AI_CONVERSATION_ID, ask.session_id)

    @property
    def usage(self) -> Usage | None:
        """Of a whole answer; None until it is."""
        return self._usage

    def admitted(self, lives: Sequence[LiveRequest]) -> None:
        """The request, each of its choices, is owned from now on."""
        self.lives = lives
        max_tokens = lives[0].request.sampling.max_tokens or 0
        self.span.set_attribute(names.GEN_AI_REQUEST_MAX_TOKENS, max_tokens)
        self._vllm.admitted(num_choices=len(lives), max_tokens=max_tokens)

    def tokens_came(self, num_tokens: int) -> None:
        """Tokens came; only the first time counts."""
        RECENT.tokens_came(num_tokens, time.monotonic())
        if self._first_token_s is None:
            self._first_token_s = time.perf_counter() - self._started_s

    def finished(self, usage: Usage, reason: FinishReason) -> None:
        """The answer is whole."""
        self._usage = usage
        self._finish_reason = reason.value

    def failed(self, error: BaseException) -> None:
        """The answer broke off."""
        self._error = error

    def end(self) -> None:
        """Ends the span, counts, and logs one line."""
        duration_s = time.perf_counter() - self._started_s
        error_type = self._error_type()
        if self._first_token_s is not None:
            self.span.set_attribute(names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, self._first_token_s)
        self._count(duration_s, error_type)
        RECENT.ended(
            time.monotonic(),
            ttft_s=self._first_token_s,
            gap_s=self._mean_gap_s(duration_s),
            is_failed=self._usage is None,
            prompt_tokens=self._usage.prompt_tokens if self._usage else 0,
            cached_tokens=self._usage.cached_tokens if self._usage else 0,
        )
        self.span.set_attributes(self.times.attributes())
        if self.lives:
            self.span.set_attribute(names.ATTEMPT, self._attempt())
        if error_type:
            self.span.set_attribute(names.ERROR_TYPE, error_type)
            self.span.set_status(StatusCode.ERROR)
        else:
            self.span.set_attribute(names.GEN_AI_RESPONSE_FINISH_REASONS, [self._finish_reason])
        self.span.end()
        self._log(duration_s, error_type)

    def _count(self, duration_s: float, error_type: str) -> None:
        link = exemplar(self.span)
        metrics.REQUEST_DURATION.labels(*self._labels, error_type).observe(duration_s, link)
        metrics.TENANT_REQUESTS.labels(self._tenant, error_type).inc()
        if self._first_token_s is not None:
            metrics.TIME_TO_FIRST_TOKEN.labels(*self._labels).observe(self._first_token_s, link)
        gap_s = self._mean_gap_s(duration_s)
        if gap_s is not None:
            metrics.TIME_PER_OUTPUT_TOKEN.labels(*self._labels).observe(gap_s, link)
        if self._usage is not None:
            self._count_tokens(self._usage)
        if isinstance(self._error, TokenmillError) and self._is_refused():
            metrics.REQUESTS_REFUSED.labels(self._error.reason).inc()
            return
        self._vllm.ended(
            duration_s=duration_s,
            ttft_s=self._first_token_s,
            mean_gap_s=gap_s,
            usage=self._usage,
            reason=self._finish_reason,
        )

    def _is_refused(self) -> bool:
        """Whether it broke off before it was in the queue."""
        return not self.lives or (
            isinstance(self._error, Overloaded) and self._first_token_s is None
        )

    def _count_tokens(self, usage: Usage) -> None:
        model = self._labels[2]
        for kind, num_tokens in (
            ("input", usage.prompt_tokens),
            ("cached_input", usage.cached_tokens),
            ("output", usage.completion_tokens),
        ):
            metrics.TOKENS.labels(model, kind).inc(num_tokens)
            metrics.TENANT_TOKENS.labels(self._tenant, kind).inc(num_tokens)
        self.span.set_attributes(
            {
                names.GEN_AI_USAGE_INPUT_TOKENS: usage.prompt_tokens,
                names.GEN_AI_USAGE_OUTPUT_TOKENS: usage.completion_tokens,
                names.GEN_AI_USAGE_CACHED_TOKENS: usage.cached_tokens,
            }
        )

    def _mean_gap_s(self, duration_s: float) -> float | None:
        num_tokens = self._usage.completion_tokens if self._usage is not None else 0
        if num_tokens < 2 or self._first_token_s is None:
            return None
        return (duration_s - self._first_token_s) / (num_tokens - 1)

    def _error_type(self) -> str:
        if self._usage is not None:
            # The client has it all: what befell the door afterwards is no fault of the answer.
            return ""
        if self._error is None or isinstance(self._error, asyncio.CancelledError | GeneratorExit):
            return "CANCELLED"
        return row_of(self._error).grpc_code.name

    def _log(self, duration_s: float, error_type: str) -> None:
        log.info(
            "request.finished" if self._usage is not None else "request.failed",
            error_type=error_type,
            finish_reason=self._finish_reason,
            attempt=self._attempt(),
            num_prompt_tokens=len(self.lives[0].request.prompt_token_ids) if self.lives else 0,
            num_output_tokens=sum(len(live.token_ids) for live in self.lives),
            time_to_first_token_s=self._first_token_s,
            duration_s=round(duration_s, 6),
        )

    def _attempt(self) -> int:
        """The highest of all choices; 0 before any."""
        return max((live.request.attempt for live in self.lives), default=0)
