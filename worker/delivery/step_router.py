"""A step's news to whom they concern: frames to gateways, blocks to the cache, facts to spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from opentelemetry.trace import Link

from services.core.delivery import NextTokens, RequestDelta
from services.core.request import RequestClass
from worker.cache.offer import OfferQueue
from worker.delivery.attempts import AttemptTable
from worker.delivery.client import GatewayStream
from worker.delivery.job import Job
from worker.engine.full_block import FullBlock
from worker.engine.port import StepReport
from worker.engine_bridge import StepNews
from worker.reports.metrics import WorkerMetrics
from worker.reports.spans import MAX_STEP_LINKS, StepPhase, trace_step
from worker.reports.tenant_outputs import TenantOutputs


class StepRouter:
    """Lives on the event loop.

    Args:
        table: attempts that are here.
        offers: takes full blocks.
        finished: called for each attempt that the engine has let go of, after its last frame.
        outputs: counts tokens by tenant.
        metrics: counts steps and what they gave to whom.
        trace_steps: whether each step is a span.
    """

    def __init__(
        self,
        table: AttemptTable[Job],
        offers: OfferQueue,
        finished: Callable[[Job], None],
        outputs: TenantOutputs,
        metrics: WorkerMetrics,
        *,
        trace_steps: bool,
    ) -> None:
        self._table = table
        self._offers = offers
        self._finished = finished
        self._outputs = outputs
        self._metrics = metrics
        self._trace_steps = trace_steps

    def on_news(self, news: StepNews) -> None:
        """A step ended: one frame per gateway leaves now."""
        report = news.report
        finished = self._send_frames(report)
        # After the frames: nothing below may hold up a token.
        for blocks in news.full_blocks:
            owner = _owner_of(blocks, finished)
            self._offers.add(blocks, owner.spans.context if owner else None)
        self._note_spans(report)
        self._metrics.on_step(report)
        for job in finished:
            self._finished(job)

    def _send_frames(self, report: StepReport) -> list[Job]:
        news: dict[GatewayStream, _News] = {}
        finished: list[Job] = []
        num_tokens: dict[tuple[str, RequestClass], int] = {}
        for output in report.outputs:
            job = self._table.of_seq(output.seq_id)
            if job is None:
                continue
            attempt, request = job.attempt, job.attempt.request
            account = request.tenant, request.request_class
            num_tokens[account] = num_tokens.get(account, 0) + len(output.token_ids)
            of_stream = news.get(job.stream)
            if of_stream is None:
                of_stream = news[job.stream] = _News()
            if attempt.is_delivering and output.is_next_token:
                of_stream.handles.append(attempt.handle)
                of_stream.positions.append(output.first_position)
                of_stream.token_ids.append(output.token_ids[0])
                continue
            delta = attempt.take(output)
            if delta is not None:
                of_stream.deltas.append(delta)
            if output.finish_reason is not None:
                finished.append(job)
        for stream, of_stream in news.items():
            of_stream.send(stream, report.step_idx)
        for (tenant, request_class), count in num_tokens.items():
            self._outputs.add(tenant, request_class, count)
        return finished

    def _note_spans(self, report: StepReport) -> None:
        links: list[Link] = []
        for seq_id in (*report.prefill_tokens_by_seq, *report.decode_seq_ids):
            job = self._table.of_seq(seq_id)
            if job is not None:
                num_prefill = report.prefill_tokens_by_seq.get(seq_id, 0)
                job.spans.stepped(num_prefill)
                job.clock.stepped(report.started_ns)
                if self._trace_steps and len(links) < MAX_STEP_LINKS:
                    phase = StepPhase.PREFILL if num_prefill else StepPhase.DECODE
                    links.append(job.spans.link(phase, num_prefill or 1))
        for seq_id in report.preempted_seq_ids:
            job = self._table.of_seq(seq_id)
            if job is not None:
                links.append(job.spans.link(StepPhase.PREEMPTED, 0))
                job.spans.preempted()
        for output in report.outputs:
            job = self._table.of_seq(output.seq_id)
            if job is None:
                continue
            if output.is_next_token and job.clock.first_token_ns:
                job.spans.went_on()
            else:
                job.spans.emitted(output, report.ended_ns)
                self._metrics.on_output(job, output, report.ended_ns)
        if links and self._trace_steps:
            trace_step(report, links)


@dataclass(slots=True)
class _News:
    """What a step tells one gateway."""

    deltas: list[RequestDelta] = field(default_factory=list[RequestDelta])
    handles: list[int] = field(default_factory=list[int])
    positions: list[int] = field(default_factory=list[int])
    token_ids: list[int] = field(default_factory=list[int])

    def send(self, stream: GatewayStream, step_idx: int) -> None:
        """Passes it on, if there is anything."""
        if self.deltas or self.handles:
            nexts = NextTokens(self.handles, self.positions, self.token_ids)
            stream.send(self.deltas, nexts, step_idx=step_idx)


def _owner_of(blocks: Sequence[FullBlock], finished: Sequence[Job]) -> Job | None:
    """Whose blocks these are, for the trace: exact if one request of the tenant ended."""
    tenant = blocks[0].stub.tenant
    return next((job for job in finished if job.attempt.request.tenant == tenant), None)
