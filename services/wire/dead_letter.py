"""Dead letters to bytes and back."""

from __future__ import annotations

from tokenmill.v1 import common_pb2
from tokenmill.v1 import queue_pb2 as pb

from services.core.dead_letter import DeadLetter, DeathReason
from services.wire.common import request_class_from_pb, request_class_to_pb
from services.wire.queue import BadPayload, parse_payload

_REASON_TO_PB = {
    DeathReason.KILLED_WORKERS: pb.DEATH_REASON_KILLED_WORKERS,
    DeathReason.FAILED_SUBMISSIONS: pb.DEATH_REASON_FAILED_SUBMISSIONS,
    DeathReason.UNDELIVERABLE: pb.DEATH_REASON_UNDELIVERABLE,
    DeathReason.UNREADABLE: pb.DEATH_REASON_UNREADABLE,
}
_REASON_FROM_PB = {value: key for key, value in _REASON_TO_PB.items()}


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Letter as a NATS payload."""
    return pb.DeadLetter(
        model=letter.model,
        request_id=letter.request_id,
        request_class=(
            common_pb2.REQUEST_CLASS_UNSPECIFIED
            if letter.request_class is None
            else request_class_to_pb(letter.request_class)
        ),
        tenant=letter.tenant,
        reason=_REASON_TO_PB[letter.reason],
        num_attempts=letter.num_attempts,
        detail=letter.detail,
        died_unix_ms=letter.died_unix_ms,
        payload=letter.payload,
    ).SerializeToString()


def decode_dead_letter(payload: bytes) -> DeadLetter:
    """Letter from a NATS payload.

    Raises:
        BadPayload: not a DeadLetter, or of a newer version.
    """
    message = pb.DeadLetter()
    parse_payload(message, payload)
    reason = _REASON_FROM_PB.get(message.reason)
    if reason is None:
        raise BadPayload(f"the reason of a DeadLetter is {int(message.reason)}; allowed: 1 to 4")
    return DeadLetter(
        model=message.model,
        request_id=message.request_id,
        request_class=request_class_from_pb(message.request_class)
        if message.request_class
        else None,
        tenant=message.tenant,
        reason=reason,
        num_attempts=message.num_attempts,
        detail=message.detail,
        died_unix_ms=message.died_unix_ms,
        payload=message.payload,
    )
