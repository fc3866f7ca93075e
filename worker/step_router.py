"""A step's news to whom they concern: frames to gateways, blocks to the cache, facts to spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.trace import Link

from services.core.delivery import RequestDelta
from worker.attempts import AttemptTable
from worker.cache.offer import OfferQueue
from worker.delivery_client import GatewayStream
from worker.engine.full_block import FullBlock
from worker.engine.port import StepReport
from worker.engine_bridge import StepNews
from worker.job import Job
from worker.metrics import WorkerMetrics
from worker.spans import StepPhase, trace_step
from worker.tenant_outputs import TenantOutputs


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
        deltas: dict[GatewayStream, list[RequestDelta]] = {}
        finished: list[Job] = []
        for output in report.outputs:
            job = self._table.of_seq(output.seq_id)
            if job is None:
                continue
            self._outputs.add(job.attempt.request, len(output.token_ids))
            delta = job.attempt.take(output)
            if delta is not None:
                deltas.setdefault(job.stream, []).append(delta)
            if output.finish_reason is not None:
                finished.append(job)
        for stream, deltas_of_stream in deltas.items():
            stream.send(deltas_of_stream, step_idx=report.step_idx)
        return finished

    def _note_spans(self, report: StepReport) -> None:
        links: list[Link] = []
        for seq_id in (*report.prefill_tokens_by_seq, *report.decode_seq_ids):
            job = self._table.of_seq(seq_id)
            if job is not None:
                num_prefill = report.prefill_tokens_by_seq.get(seq_id, 0)
                phase = StepPhase.PREFILL if num_prefill else StepPhase.DECODE
                links.append(job.spans.link(phase, num_prefill or 1))
                job.spans.stepped(num_prefill)
                job.clock.stepped(report.started_ns)
        for seq_id in report.preempted_seq_ids:
            job = self._table.of_seq(seq_id)
            if job is not None:
                links.append(job.spans.link(StepPhase.PREEMPTED, 0))
                job.spans.preempted()
        for output in report.outputs:
            job = self._table.of_seq(output.seq_id)
            if job is not None:
                job.spans.emitted(output, report.ended_ns)
                self._metrics.on_output(job, output, report.ended_ns)
        if links and self._trace_steps:
            trace_step(report, links)


def _owner_of(blocks: Sequence[FullBlock], finished: Sequence[Job]) -> Job | None:
    """Whose blocks these are, for the trace: exact if one request of the tenant ended."""
    tenant = blocks[0].stub.tenant
    return next((job for job in finished if job.attempt.request.tenant == tenant), None)
