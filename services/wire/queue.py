"""NATS payloads to bytes and back."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from tokenmill.v1 import queue_pb2 as pb

from services.core.errors import InvalidRequest
from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.request import QueuedRequest
from services.wire.common import (
    request_class_from_pb,
    request_class_to_pb,
    sampling_from_pb,
    sampling_to_pb,
)

_STATE_TO_PB = {
    WorkerState.READY: pb.WORKER_STATE_READY,
    WorkerState.DRAINING: pb.WORKER_STATE_DRAINING,
    WorkerState.STALLED: pb.WORKER_STATE_STALLED,
}
_STATE_FROM_PB = {value: key for key, value in _STATE_TO_PB.items()}


class BadPayload(InvalidRequest):
    """Bytes on a subject that are not the message that belongs there."""

    reason = "BAD_PAYLOAD"


def queued_request_to_pb(request: QueuedRequest) -> pb.QueuedRequest:
    """Attempt as sent."""
    return pb.QueuedRequest(
        request_id=request.request_id,
        attempt=request.attempt,
        model=request.model,
        prompt_token_ids=request.prompt_token_ids,
        sampling=sampling_to_pb(request.sampling),
        tenant=request.tenant,
        session_id=request.session_id,
        deadline_unix_ms=request.deadline_unix_ms,
        reply_to=request.reply_to,
        request_class=request_class_to_pb(request.request_class),
        accepted_unix_ms=request.accepted_unix_ms,
    )


def queued_request_from_pb(message: pb.QueuedRequest) -> QueuedRequest:
    """Attempt as received."""
    return QueuedRequest(
        request_id=message.request_id,
        attempt=message.attempt,
        model=message.model,
        prompt_token_ids=tuple(message.prompt_token_ids),
        sampling=sampling_from_pb(message.sampling),
        tenant=message.tenant,
        session_id=message.session_id,
        deadline_unix_ms=message.deadline_unix_ms,
        reply_to=message.reply_to,
        request_class=request_class_from_pb(message.request_class),
        accepted_unix_ms=message.accepted_unix_ms,
    )


def encode_queued_request(request: QueuedRequest) -> bytes:
    """Attempt as a NATS payload."""
    return queued_request_to_pb(request).SerializeToString()


def decode_queued_request(payload: bytes) -> QueuedRequest:
    """Attempt from a NATS payload.

    Raises:
        BadPayload: not a QueuedRequest.
    """
    message = pb.QueuedRequest()
    _parse(message, payload)
    if not message.request_id or message.attempt < 1:
        raise BadPayload("request_id or attempt is missing in a QueuedRequest")
    return queued_request_from_pb(message)


def encode_cancel(request_id: str) -> bytes:
    """Cancel notice as a NATS payload."""
    return pb.RequestCancelled(request_id=request_id).SerializeToString()


def decode_cancel(payload: bytes) -> str:
    """Request id of a cancel notice.

    Raises:
        BadPayload: not a RequestCancelled.
    """
    message = pb.RequestCancelled()
    _parse(message, payload)
    return message.request_id


def load_to_pb(load: WorkerLoad) -> pb.WorkerLoad:
    """Load as sent."""
    return pb.WorkerLoad(
        max_requests=load.max_requests,
        num_running=load.num_running,
        num_waiting=load.num_waiting,
        num_free_blocks=load.num_free_blocks,
        num_blocks=load.num_blocks,
        block_size=load.block_size,
        num_pending_prefill_tokens=load.num_pending_prefill_tokens,
    )


def load_from_pb(message: pb.WorkerLoad) -> WorkerLoad:
    """Load as received."""
    return WorkerLoad(
        max_requests=message.max_requests,
        num_running=message.num_running,
        num_waiting=message.num_waiting,
        num_free_blocks=message.num_free_blocks,
        num_blocks=message.num_blocks,
        block_size=message.block_size,
        num_pending_prefill_tokens=message.num_pending_prefill_tokens,
    )


def encode_heartbeat(heartbeat: WorkerHeartbeat) -> bytes:
    """Heartbeat as a NATS payload."""
    return pb.WorkerHeartbeat(
        worker_id=heartbeat.worker_id,
        address=heartbeat.address,
        model=heartbeat.model,
        state=_STATE_TO_PB[heartbeat.state],
        heartbeat_idx=heartbeat.heartbeat_idx,
        load=load_to_pb(heartbeat.load),
    ).SerializeToString()


def decode_heartbeat(payload: bytes) -> WorkerHeartbeat:
    """Heartbeat from a NATS payload. A state of a newer version counts as STALLED: not routable.

    Raises:
        BadPayload: not a WorkerHeartbeat.
    """
    message = pb.WorkerHeartbeat()
    _parse(message, payload)
    if not message.worker_id or not message.address:
        raise BadPayload("worker_id or address is missing in a WorkerHeartbeat")
    return WorkerHeartbeat(
        worker_id=message.worker_id,
        address=message.address,
        model=message.model,
        state=_STATE_FROM_PB.get(message.state, WorkerState.STALLED),
        heartbeat_idx=message.heartbeat_idx,
        load=load_from_pb(message.load),
    )


def _parse(
    message: pb.QueuedRequest | pb.RequestCancelled | pb.WorkerHeartbeat, payload: bytes
) -> None:
    try:
        message.ParseFromString(payload)
    except DecodeError as exc:
        raise BadPayload(f"{len(payload)} bytes are no {message.DESCRIPTOR.full_name}") from exc
