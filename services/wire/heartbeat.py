"""A worker's word on itself to bytes and back."""

from __future__ import annotations

from tokenmill.v1 import queue_pb2 as pb

from services.core.kv_events import KvState
from services.core.load import TenantOutput, WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.step_time import StepTimeModel
from services.wire.common import request_class_from_pb, request_class_to_pb
from services.wire.queue import BadPayload, parse_payload

_STATE_TO_PB = {
    WorkerState.READY: pb.WORKER_STATE_READY,
    WorkerState.DRAINING: pb.WORKER_STATE_DRAINING,
    WorkerState.STALLED: pb.WORKER_STATE_STALLED,
}
_STATE_FROM_PB = {value: key for key, value in _STATE_TO_PB.items()}


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
        max_running=load.max_running,
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
        max_running=message.max_running,
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
        kv=None if heartbeat.kv is None else _kv_to_pb(heartbeat.kv),
        step_time=None if heartbeat.step_time is None else _step_time_to_pb(heartbeat.step_time),
        outputs=[
            pb.TenantOutput(
                tenant=output.tenant,
                request_class=request_class_to_pb(output.request_class),
                num_tokens=output.num_tokens,
            )
            for output in heartbeat.outputs
        ],
        cache_block_s=heartbeat.cache_block_s,
        itl_target_s=heartbeat.itl_target_s,
    ).SerializeToString()


def decode_heartbeat(payload: bytes) -> WorkerHeartbeat:
    """Heartbeat from a NATS payload. A state of a newer version counts as STALLED: not routable.

    Raises:
        BadPayload: not a WorkerHeartbeat.
    """
    message = pb.WorkerHeartbeat()
    parse_payload(message, payload)
    if not message.worker_id or not message.address:
        raise BadPayload("worker_id or address is missing in a WorkerHeartbeat")
    return WorkerHeartbeat(
        worker_id=message.worker_id,
        address=message.address,
        model=message.model,
        state=_STATE_FROM_PB.get(message.state, WorkerState.STALLED),
        heartbeat_idx=message.heartbeat_idx,
        load=load_from_pb(message.load),
        kv=_kv_from_pb(message.kv) if message.HasField("kv") else None,
        step_time=(
            _step_time_from_pb(message.step_time) if message.HasField("step_time") else None
        ),
        outputs=tuple(
            TenantOutput(
                output.tenant, request_class_from_pb(output.request_class), output.num_tokens
            )
            for output in message.outputs
        ),
        cache_block_s=message.cache_block_s,
        itl_target_s=message.itl_target_s,
    )


def _kv_to_pb(kv: KvState) -> pb.KvState:
    return pb.KvState(
        model_revision=kv.model_revision, layout=kv.layout, epoch=kv.epoch, event_idx=kv.event_idx
    )


def _kv_from_pb(message: pb.KvState) -> KvState:
    return KvState(message.model_revision, message.layout, message.epoch, message.event_idx)


def _step_time_to_pb(model: StepTimeModel) -> pb.StepTime:
    return pb.StepTime(
        base_s=model.base_s,
        prefill_s=model.prefill_s,
        prefill_pair_s=model.prefill_pair_s,
        decode_s=model.decode_s,
        decode_pair_s=model.decode_pair_s,
        max_batched_tokens=model.max_batched_tokens,
    )


def _step_time_from_pb(message: pb.StepTime) -> StepTimeModel:
    return StepTimeModel(
        base_s=message.base_s,
        prefill_s=message.prefill_s,
        prefill_pair_s=message.prefill_pair_s,
        decode_s=message.decode_s,
        decode_pair_s=message.decode_pair_s,
        max_batched_tokens=message.max_batched_tokens,
    )
