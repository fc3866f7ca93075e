"""A scheduler's word on the queue to bytes and back."""

from __future__ import annotations

from tokenmill.v1 import queue_pb2 as pb

from services.core.queue_status import BandStatus, QueueStatus
from services.wire.queue import BadPayload, parse_payload


def encode_queue_status(status: QueueStatus) -> bytes:
    """Status as a NATS payload."""
    return pb.QueueStatus(
        model=status.model,
        scheduler_id=status.scheduler_id,
        bands=[
            pb.BandStatus(band=band, num_per_s=part.num_per_s, num_held=part.num_held)
            for band, part in status.bands.items()
        ],
        lanes=[
            pb.LaneDepth(lane=lane, num_messages=depth) for lane, depth in status.depths.items()
        ],
        num_workers=status.num_workers,
        desired_workers=status.desired_workers,
    ).SerializeToString()


def decode_queue_status(payload: bytes) -> QueueStatus:
    """Status from a NATS payload.

    Raises:
        BadPayload: not a QueueStatus.
    """
    message = pb.QueueStatus()
    parse_payload(message, payload)
    if not message.model or not message.scheduler_id:
        raise BadPayload("model or scheduler_id is missing in a QueueStatus")
    return QueueStatus(
        model=message.model,
        scheduler_id=message.scheduler_id,
        bands={part.band: BandStatus(part.num_per_s, part.num_held) for part in message.bands},
        depths={part.lane: part.num_messages for part in message.lanes},
        num_workers=message.num_workers,
        desired_workers=message.desired_workers,
    )
