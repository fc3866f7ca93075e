"""One batch on its way to one worker, and its spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span

from services.core.load import WorkerLoad
from services.core.request import Submission, SubmissionOutcome, SubmissionResult
from services.runtime import names
from services.runtime.bus import mark_failed
from services.runtime.telemetry import trace_of, tracer
from services.scheduler.batching import Batch, BatchLimits
from services.scheduler.fleet.worker_client import WorkerClient
from services.scheduler.order import RequestKey
from services.scheduler.placement import Score
from services.scheduler.queue.hold import Hold
from services.scheduler.wait_book import Wait


class PlacedBatch:
    """Each request's placement span, from the decision to the worker's answer for it.

    The call itself is one for all: its span hangs below the first request's placement, and for more
    than one request a root span of its own links all of them.

    Args:
        batch: what goes where, and why.
        holds: of its requests.
        limits: of batches.
        waits: how requests had waited.
        started_ns: Unix time at which the scheduler began to decide.
    """

    def __init__(
        self,
        batch: Batch,
        holds: Sequence[Hold],
        limits: BatchLimits,
        waits: Mapping[RequestKey, Wait],
        started_ns: int,
    ) -> None:
        self._holds = holds
        self._own = [
            {
                names.PLACEMENT_STARTED_NS: started_ns,
                **_why_waited(waits[entry.key]),
                **_scores(scores),
            }
            # Without tracing nobody reads them.
            if hold.span.is_recording()
            else {}
            for hold, entry, scores in zip(holds, batch.requests, batch.scores, strict=True)
        ]
        self._attributes: dict[str, str | int | float] = {
            names.WORKER_ID: batch.worker_id,
            names.BATCH_SIZE: len(holds),
            names.NUM_TOKENS: batch.num_missing_tokens,
            names.BUDGET_WASTE: round(batch.waste(limits), 4) if batch.is_followed else 0.0,
        }

    async def submit(
        self, client: WorkerClient, address: str, *, timeout_s: float
    ) -> tuple[list[SubmissionResult], WorkerLoad]:
        """Hands the batch over.

        Returns:
            A result per request, in order; one that the worker left out counts as refused.

        Raises:
            TokenmillError: the worker did not answer.
        """
        places = [
            tracer.start_span(
                names.SPAN_SCHEDULER_PLACE,
                hold.context,
                attributes={
                    **self._attributes,
                    **own,
                    names.REQUEST_ID: hold.entry.request.request_id,
                    names.ATTEMPT: hold.entry.request.attempt,
                },
            )
            for hold, own in zip(self._holds, self._own, strict=True)
        ]
        batch = self._start_batch_span(places)
        try:
            with trace.use_span(places[0], record_exception=False, set_status_on_exception=False):
                results, load = await client.submit(
                    address,
                    [
                        Submission(
                            hold.entry.request,
                            trace_of(trace.set_span_in_context(place)),
                            hold.message.payload,
                        )
                        for hold, place in zip(self._holds, places, strict=True)
                    ],
                    timeout_s=timeout_s,
                )
            results = self._matched(results)
            for place, result in zip(places, results, strict=True):
                place.set_attribute(names.OUTCOME, result.outcome.value)
        except BaseException as exc:
            for span in places if batch is None else (*places, batch):
                mark_failed(span, exc)
            raise
        finally:
            for place in places:
                place.end()
            if batch is not None:
                batch.end()
        return results, load

    def _start_batch_span(self, places: Sequence[Span]) -> Span | None:
        if len(places) == 1:
            return None
        return tracer.start_span(
            names.SPAN_SCHEDULER_BATCH,
            Context(),
            links=[Link(place.get_span_context()) for place in places],
            attributes=self._attributes,
        )

    def _matched(self, results: Sequence[SubmissionResult]) -> list[SubmissionResult]:
        request_ids = [hold.entry.request.request_id for hold in self._holds]
        if [result.request_id for result in results] == request_ids:
            return list(results)
        answered = {result.request_id: result for result in results}
        return [
            answered.get(request_id)
            or SubmissionResult(request_id, SubmissionOutcome.REFUSED, "left out of the answer")
            for request_id in request_ids
        ]


def _why_waited(wait: Wait) -> dict[str, int | float]:
    return {
        names.NUM_BEFORE_BY_CLASS: wait.num_before_by_class,
        names.NUM_BEFORE_BY_TURN: wait.num_before_by_turn,
        names.NO_ROOM_MS: round(wait.no_room_s * 1000, 3),
    }


def _scores(scores: Sequence[Score]) -> dict[str, list[str] | list[float] | list[int]]:
    ordered = sorted(scores, key=lambda score: score.cost_s)
    return {
        names.PLACEMENT_WORKERS: [score.worker_id for score in ordered],
        names.PLACEMENT_COSTS_S: [round(score.cost_s, 6) for score in ordered],
        names.PLACEMENT_MISSING_TOKENS: [score.num_missing_tokens for score in ordered],
    }
