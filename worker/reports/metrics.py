"""Prometheus metrics of a worker: what its steps did, and what state it is in."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import Counter, Histogram

from services.core.step_time import StepTimeModel
from services.runtime import names
from services.runtime.bounded_label import TENANT_LABEL
from services.runtime.metrics import exemplar
from worker.delivery.job import Job
from worker.engine.port import SequenceOutput, StepReport

_STEP_SECONDS = Histogram(
    names.METRIC_STEP_SECONDS,
    "Time of an engine step, by what it computed: prefill, decode, or both (mixed).",
    ("model", "phase"),
    buckets=names.STEP_BUCKETS,
)
_STEP_SEQUENCES = Histogram(
    names.METRIC_STEP_SEQUENCES,
    "Sequences of a step.",
    ("model",),
    buckets=names.COUNT_BUCKETS,
)
_STEP_TOKENS = Counter(names.METRIC_STEP_TOKENS, "Tokens that steps computed.", ("model", "phase"))
_BUSY_SECONDS = Counter(
    names.METRIC_BUSY_SECONDS,
    "Time in steps; its rate is the utilisation of the worker.",
    ("model",),
)
_PREEMPTIONS = Counter(
    names.METRIC_PREEMPTIONS, "Sequences that gave up their blocks and computed again.", ("model",)
)
_PROMPT_TOKENS = Counter(
    names.METRIC_PROMPT_TOKENS,
    "Prompt tokens by where their K/V came from: pool (held here), cache_service, computed.",
    ("model", "source"),
)
_CACHE_LOAD_SECONDS, _CACHE_SAVED_SECONDS = (
    Counter(name, text, ("model", "tenant"))
    for name, text in (
        (names.METRIC_CACHE_LOAD_SECONDS, "Time that requests waited for the cache service."),
        (
            names.METRIC_CACHE_SAVED_SECONDS,
            "Time that computing what it gave would have taken, by measured step times.",
        ),
    )
)
_VLLM_PREEMPTIONS = Counter(
    names.VLLM_PREEMPTIONS, "Sequences that gave up their blocks.", names.VLLM_LABELS
)
_VLLM_ITERATION_TOKENS = Histogram(
    names.VLLM_ITERATION_TOKENS,
    "Tokens of a step.",
    names.VLLM_LABELS,
    buckets=names.TOKEN_BUCKETS,
)
_VLLM_QUERIES = Counter(
    names.VLLM_PREFIX_QUERIES, "Prompt tokens that were looked for in the cache.", names.VLLM_LABELS
)
_VLLM_HITS = Counter(
    names.VLLM_PREFIX_HITS, "Prompt tokens that were found in the cache.", names.VLLM_LABELS
)
_VLLM_BY_SOURCE = Counter(
    names.VLLM_PROMPT_TOKENS_BY_SOURCE,
    "Prompt tokens by where their K/V came from.",
    (*names.VLLM_LABELS, "source"),
)
_VLLM_QUEUE_TIME, _VLLM_PREFILL_TIME, _VLLM_DECODE_TIME, _VLLM_INFERENCE_TIME = (
    Histogram(name, text, names.VLLM_LABELS, buckets=names.REQUEST_DURATION_BUCKETS)
    for name, text in (
        (names.VLLM_QUEUE_TIME, "From acceptance at the gateway to the first step."),
        (names.VLLM_PREFILL_TIME, "From the first step to the first token."),
        (names.VLLM_DECODE_TIME, "From the first token to the last."),
        (names.VLLM_INFERENCE_TIME, "From the first step to the last token."),
    )
)
_SOURCES = {
    "pool": "local_cache_hit",
    "cache_service": "external_kv_transfer",
    "computed": "local_compute",
}


class WorkerMetrics:
    """Hears of steps and of their requests; lives on the event loop.

    Args:
        model: name that requests carry.
        worker_id: label `engine` of the vllm names.
        block_size: tokens of a block.
        step_time: as measured here; None while too little was.
    """

    def __init__(
        self,
        model: str,
        worker_id: str,
        *,
        block_size: int,
        step_time: Callable[[], StepTimeModel | None] = lambda: None,
    ) -> None:
        self._model = model
        self._labels = (model, worker_id)
        self._block_size = block_size
        self._step_time = step_time
        self._seconds = {
            phase: _STEP_SECONDS.labels(model, phase) for phase in ("prefill", "decode", "mixed")
        }
        self._sequences = _STEP_SEQUENCES.labels(model)
        self._prefill_tokens = _STEP_TOKENS.labels(model, "prefill")
        self._decode_tokens = _STEP_TOKENS.labels(model, "decode")
        self._busy = _BUSY_SECONDS.labels(model)
        self._preemptions = _PREEMPTIONS.labels(model)
        self._vllm_preemptions = _VLLM_PREEMPTIONS.labels(*self._labels)
        self._iteration_tokens = _VLLM_ITERATION_TOKENS.labels(*self._labels)

    def on_step(self, report: StepReport) -> None:
        """Counts a step; one that computed nothing is none."""
        num_prefill = sum(report.prefill_tokens_by_seq.values())
        num_decode = len(report.decode_seq_ids)
        if report.preempted_seq_ids:
            self._preemptions.inc(len(report.preempted_seq_ids))
            self._vllm_preemptions.inc(len(report.preempted_seq_ids))
        if not num_prefill and not num_decode:
            return
        seconds = (report.ended_ns - report.started_ns) / 1e9
        phase = "decode" if not num_prefill else "mixed" if num_decode else "prefill"
        self._seconds[phase].observe(seconds)
        self._busy.inc(seconds)
        self._sequences.observe(len(report.prefill_tokens_by_seq) + num_decode)
        self._prefill_tokens.inc(num_prefill)
        self._decode_tokens.inc(num_decode)
        self._iteration_tokens.observe(num_prefill + num_decode)

    def on_output(self, job: Job, output: SequenceOutput, ended_ns: int) -> None:
        """A request has news; the first tokens and the end are counted."""
        clock = job.clock
        if output.token_ids and clock.got_tokens(ended_ns):
            self._first_token(job, output.cached_tokens)
        if output.finish_reason is not None and clock.first_token_ns:
            decode_s = _seconds(clock.first_token_ns, ended_ns)
            inference_s = _seconds(clock.first_step_ns, ended_ns)
            _VLLM_DECODE_TIME.labels(*self._labels).observe(decode_s)
            _VLLM_INFERENCE_TIME.labels(*self._labels).observe(inference_s)

    def _first_token(self, job: Job, num_cached: int) -> None:
        request, clock = job.attempt.request, job.clock
        link = exemplar(job.spans.request)
        first_ns = clock.first_step_ns or clock.first_token_ns
        if request.accepted_unix_ms:
            queue_s = _seconds(request.accepted_unix_ms * 1_000_000, first_ns)
            _VLLM_QUEUE_TIME.labels(*self._labels).observe(queue_s, link)
        _VLLM_PREFILL_TIME.labels(*self._labels).observe(
            _seconds(first_ns, clock.first_token_ns), link
        )
        num_prompt = len(request.prompt_token_ids)
        num_fetched = min(num_cached, job.num_fetched_blocks * self._block_size)
        self._count_fetch(job, num_cached - num_fetched, num_fetched)
        _VLLM_QUERIES.labels(*self._labels).inc(num_prompt)
        _VLLM_HITS.labels(*self._labels).inc(num_cached)
        for source, num_tokens in (
            ("pool", num_cached - num_fetched),
            ("cache_service", num_fetched),
            ("computed", max(0, num_prompt - num_cached)),
        ):
            _PROMPT_TOKENS.labels(self._model, source).inc(num_tokens)
            _VLLM_BY_SOURCE.labels(*self._labels, _SOURCES[source]).inc(num_tokens)

    def _count_fetch(self, job: Job, num_held: int, num_fetched: int) -> None:
        tenant = TENANT_LABEL.of(job.attempt.request.tenant)
        _CACHE_LOAD_SECONDS.labels(self._model, tenant).inc(job.fetch_s)
        model = self._step_time()
        if model is not None and num_fetched:
            num_pairs = num_fetched * (num_held + num_fetched / 2)
            saved_s = num_fetched * model.prefill_token_s(0, 0) + model.prefill_pair_s * num_pairs
            _CACHE_SAVED_SECONDS.labels(self._model, tenant).inc(saved_s)


def _seconds(start_ns: int, end_ns: int) -> float:
    return max(0.0, (end_ns - start_ns) / 1e9)
