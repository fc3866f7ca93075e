"""What a gateway sees of an answer, under the names that dashboards for vLLM ask for."""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Histogram

from gateway.gap_histogram import GapHistogram
from services.core.request import FinishReason, Usage
from services.runtime import names

_E2E_LATENCY = Histogram(
    names.VLLM_E2E_LATENCY,
    "From acceptance to the end of the answer.",
    names.VLLM_LABELS,
    buckets=names.REQUEST_DURATION_BUCKETS,
)
_TTFT = Histogram(
    names.VLLM_TTFT,
    "From acceptance to the first token.",
    names.VLLM_LABELS,
    buckets=names.TIME_TO_FIRST_TOKEN_BUCKETS,
)
_ITL = GapHistogram(
    names.VLLM_ITL,
    "Between two pieces of an answer, as the client takes them.",
    names.VLLM_LABELS,
    names.TIME_PER_OUTPUT_TOKEN_BUCKETS,
)
REGISTRY.register(_ITL)
_TPOT = Histogram(
    names.VLLM_TPOT,
    "Mean time per token after the first.",
    names.VLLM_LABELS,
    buckets=names.TIME_PER_OUTPUT_TOKEN_BUCKETS,
)
_PROMPT_TOKENS = Counter(
    names.VLLM_PROMPT_TOKENS, "Prompt tokens of finished answers.", names.VLLM_LABELS
)
_GENERATION_TOKENS = Counter(
    names.VLLM_GENERATION_TOKENS, "Output tokens of finished answers.", names.VLLM_LABELS
)
_REQUEST_PROMPT_TOKENS = Histogram(
    names.VLLM_REQUEST_PROMPT_TOKENS,
    "Prompt tokens of an answer.",
    names.VLLM_LABELS,
    buckets=names.TOKEN_BUCKETS,
)
_REQUEST_GENERATION_TOKENS = Histogram(
    names.VLLM_REQUEST_GENERATION_TOKENS,
    "Output tokens of an answer.",
    names.VLLM_LABELS,
    buckets=names.TOKEN_BUCKETS,
)
_SUCCESS = Counter(
    names.VLLM_REQUEST_SUCCESS,
    "Answers by how they ended: stop, length, abort.",
    (*names.VLLM_LABELS, "finished_reason"),
)
_PARAMS_N = Histogram(
    names.VLLM_PARAMS_N,
    "Choices that a request asks for.",
    names.VLLM_LABELS,
    buckets=names.COUNT_BUCKETS,
)
_PARAMS_MAX_TOKENS = Histogram(
    names.VLLM_PARAMS_MAX_TOKENS,
    "Output tokens that a request allows.",
    names.VLLM_LABELS,
    buckets=names.TOKEN_BUCKETS,
)


class VllmMetrics:
    """Counts answers of one model."""

    def __init__(self, model: str) -> None:
        # A gateway has no engine; dashboards sum over the label.
        self._labels = (model, "0")
        self.gap = _ITL.labels(*self._labels).observe
        """Told of each time between two pieces, in seconds."""

    def admitted(self, *, num_choices: int, max_tokens: int) -> None:
        """A request was let in."""
        _PARAMS_N.labels(*self._labels).observe(num_choices)
        _PARAMS_MAX_TOKENS.labels(*self._labels).observe(max_tokens)

    def ended(
        self,
        *,
        duration_s: float,
        ttft_s: float | None,
        mean_gap_s: float | None,
        usage: Usage | None,
        reason: str,
    ) -> None:
        """An answer ended; without usage it broke off."""
        labels = self._labels
        if ttft_s is not None:
            _TTFT.labels(*labels).observe(ttft_s)
        if mean_gap_s is not None:
            _TPOT.labels(*labels).observe(mean_gap_s)
        is_whole = usage is not None
        known = reason in (FinishReason.STOP.value, FinishReason.LENGTH.value)
        _SUCCESS.labels(*labels, reason if is_whole and known else "abort").inc()
        if usage is None:
            return
        _E2E_LATENCY.labels(*labels).observe(duration_s)
        _PROMPT_TOKENS.labels(*labels).inc(usage.prompt_tokens)
        _GENERATION_TOKENS.labels(*labels).inc(usage.completion_tokens)
        _REQUEST_PROMPT_TOKENS.labels(*labels).observe(usage.prompt_tokens)
        _REQUEST_GENERATION_TOKENS.labels(*labels).observe(usage.completion_tokens)
