"""NATS payloads to bytes and back."""

from __future__ import annotations

from google.protobuf.message import DecodeError, Message
from tokenmill.v1 import queue_pb2 as pb

from services.core.errors import InvalidRequest
from services.core.request import QueuedRequest
from services.wire.common import (
    request_class_from_pb,
    request_class_to_pb,
    sampling_from_pb,
    sampling_to_pb,
)


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
    parse_payload(message, payload)
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
    parse_payload(message, payload)
    return message.request_id


def encode_refusal(request_id: str) -> bytes:
    """Word that a request cannot begin in time, as a NATS payload."""
    return pb.RequestRefused(request_id=request_id).SerializeToString()


def decode_refusal(payload: bytes) -> str:
    """Request id of one that cannot begin in time.

    Raises:
        BadPayload: not a RequestRefused.
    """
    message = pb.RequestRefused()
    parse_payload(message, payload)
    return message.request_id


def parse_payload(message: Message, payload: bytes) -> None:
    """Fills a message from a NATS payload.

    Raises:
        BadPayload: these bytes are no such message.
    """
    try:
        message.ParseFromString(payload)
    except DecodeError as exc:
        raise BadPayload(f"{len(payload)} bytes are no {message.DESCRIPTOR.full_name}") from exc
