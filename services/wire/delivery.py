"""Messages of the Deliver stream."""

from __future__ import annotations

from tokenmill.v1 import delivery_pb2 as pb

from services.core.delivery import (
    Attach,
    Attached,
    Cancel,
    GatewayMessage,
    Gone,
    NextTokens,
    RequestDelta,
    StepFrame,
    WorkerHello,
    WorkerMessage,
)
from services.core.errors import InvalidRequest
from services.wire.common import (
    finish_reason_from_pb,
    finish_reason_to_pb,
    logprobs_from_pb,
    logprobs_to_pb,
)


def worker_message_to_pb(message: WorkerMessage) -> pb.DeliverRequest:
    """What a worker sends."""
    match message:
        case WorkerHello(worker_id):
            return pb.DeliverRequest(hello=pb.WorkerHello(worker_id=worker_id))
        case Attach(handle, request_id, attempt):
            return pb.DeliverRequest(
                attach=pb.Attach(handle=handle, request_id=request_id, attempt=attempt)
            )
        case StepFrame(step_idx, deltas, nexts):
            return pb.DeliverRequest(
                frame=pb.StepFrame(
                    step_idx=step_idx,
                    deltas=[
                        pb.RequestDelta(
                            handle=delta.handle,
                            first_position=delta.first_position,
                            token_ids=delta.token_ids,
                            finish_reason=finish_reason_to_pb(delta.finish_reason),
                            error_message=delta.error_message,
                            cached_tokens=delta.cached_tokens,
                            logprobs=logprobs_to_pb(delta.logprobs),
                            prompt_logprobs=logprobs_to_pb(delta.prompt_logprobs),
                        )
                        for delta in deltas
                    ],
                    next_handles=nexts.handles,
                    next_positions=nexts.positions,
                    next_token_ids=nexts.token_ids,
                )
            )


def worker_message_from_pb(message: pb.DeliverRequest) -> WorkerMessage:
    """What a gateway receives.

    Raises:
        InvalidRequest: an empty message, one of a newer version, or a frame with halves missing.
    """
    match message.WhichOneof("kind"):
        case "hello":
            return WorkerHello(worker_id=message.hello.worker_id)
        case "attach":
            attach = message.attach
            return Attach(
                handle=attach.handle, request_id=attach.request_id, attempt=attach.attempt
            )
        case "frame":
            frame = message.frame
            nexts = NextTokens(
                tuple(frame.next_handles), tuple(frame.next_positions), tuple(frame.next_token_ids)
            )
            if not len(nexts.handles) == len(nexts.positions) == len(nexts.token_ids):
                raise InvalidRequest(
                    f"next_handles, next_positions and next_token_ids have {len(nexts.handles)},"
                    f" {len(nexts.positions)} and {len(nexts.token_ids)} entries; allowed: as many",
                    field="next_handles",
                )
            return StepFrame(
                step_idx=frame.step_idx,
                deltas=[
                    RequestDelta(
                        handle=delta.handle,
                        first_position=delta.first_position,
                        token_ids=tuple(delta.token_ids),
                        finish_reason=finish_reason_from_pb(delta.finish_reason),
                        error_message=delta.error_message,
                        cached_tokens=delta.cached_tokens,
                        logprobs=logprobs_from_pb(delta.logprobs),
                        prompt_logprobs=logprobs_from_pb(delta.prompt_logprobs),
                    )
                    for delta in frame.deltas
                ],
                nexts=nexts,
            )
        case _:
            raise InvalidRequest("kind is not set in a DeliverRequest", field="kind")


def gateway_message_to_pb(message: GatewayMessage) -> pb.DeliverResponse:
    """What a gateway sends."""
    match message:
        case Attached(handle, delivered_token_ids):
            return pb.DeliverResponse(
                attach_reply=pb.AttachReply(
                    handle=handle, attached=pb.Attached(delivered_token_ids=delivered_token_ids)
                )
            )
        case Gone(handle, reason):
            return pb.DeliverResponse(
                attach_reply=pb.AttachReply(handle=handle, gone=pb.Gone(reason=reason))
            )
        case Cancel(handle):
            return pb.DeliverResponse(cancel=pb.Cancel(handle=handle))


def gateway_message_from_pb(message: pb.DeliverResponse) -> GatewayMessage:
    """What a worker receives. A reply without outcome counts as Gone: nobody may deliver on it.

    Raises:
        InvalidRequest: an empty message, or one of a newer version.
    """
    match message.WhichOneof("kind"):
        case "attach_reply":
            reply = message.attach_reply
            if reply.WhichOneof("outcome") == "attached":
                return Attached(
                    handle=reply.handle,
                    delivered_token_ids=tuple(reply.attached.delivered_token_ids),
                )
            return Gone(handle=reply.handle, reason=reply.gone.reason)
        case "cancel":
            return Cancel(handle=message.cancel.handle)
        case _:
            raise InvalidRequest("kind is not set in a DeliverResponse", field="kind")
