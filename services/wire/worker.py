"""WorkerService messages."""

from __future__ import annotations

from collections.abc import Sequence

from tokenmill.v1 import worker_pb2 as pb

from services.core.load import WorkerLoad
from services.core.request import Submission, SubmissionOutcome, SubmissionResult
from services.wire.common import trace_from_pb, trace_to_pb
from services.wire.heartbeat import load_from_pb, load_to_pb
from services.wire.queue import queued_request_from_pb, queued_request_to_pb

_OUTCOME_TO_PB = {
    SubmissionOutcome.ACCEPTED: pb.SUBMISSION_OUTCOME_ACCEPTED,
    SubmissionOutcome.GONE: pb.SUBMISSION_OUTCOME_GONE,
    SubmissionOutcome.REFUSED: pb.SUBMISSION_OUTCOME_REFUSED,
    SubmissionOutcome.OWNER_UNREACHABLE: pb.SUBMISSION_OUTCOME_OWNER_UNREACHABLE,
}
_OUTCOME_FROM_PB = {value: key for key, value in _OUTCOME_TO_PB.items()}


def submit_request_to_pb(submissions: Sequence[Submission]) -> pb.SubmitRequest:
    """Batch as sent."""
    return pb.SubmitRequest(submissions=[_submission_to_pb(one) for one in submissions])


def _submission_to_pb(submission: Submission) -> pb.Submission:
    trace = trace_to_pb(submission.trace)
    if not submission.encoded:
        return pb.Submission(request=queued_request_to_pb(submission.request), trace_context=trace)
    message = pb.Submission(trace_context=trace)
    message.request.MergeFromString(submission.encoded)
    return message


def submit_request_from_pb(message: pb.SubmitRequest) -> list[Submission]:
    """Batch as received."""
    return [
        Submission(
            request=queued_request_from_pb(entry.request), trace=trace_from_pb(entry.trace_context)
        )
        for entry in message.submissions
    ]


def submit_response_to_pb(
    results: Sequence[SubmissionResult], load: WorkerLoad
) -> pb.SubmitResponse:
    """Answer as sent."""
    return pb.SubmitResponse(
        results=[
            pb.SubmissionResult(
                request_id=result.request_id,
                outcome=_OUTCOME_TO_PB[result.outcome],
                reason=result.reason,
            )
            for result in results
        ],
        load=load_to_pb(load),
    )


def submit_response_from_pb(
    message: pb.SubmitResponse,
) -> tuple[list[SubmissionResult], WorkerLoad]:
    """Answer as received. An outcome of a newer version counts as refused: place again."""
    results = [
        SubmissionResult(
            request_id=result.request_id,
            outcome=_OUTCOME_FROM_PB.get(result.outcome, SubmissionOutcome.REFUSED),
            reason=result.reason,
        )
        for result in message.results
    ]
    return results, load_from_pb(message.load)
