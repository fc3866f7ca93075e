import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.delivery import (
    Attach,
    Attached,
    Cancel,
    Gone,
    NextTokens,
    RequestDelta,
    StepFrame,
    WorkerHello,
)
from services.core.errors import InvalidRequest
from services.core.kv_events import KvEvent, KvSnapshot, KvState
from services.core.load import TenantOutput, WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.logprobs import TokenLogprobs
from services.core.request import (
    FinishReason,
    QueuedRequest,
    RequestClass,
    Submission,
    SubmissionOutcome,
    SubmissionResult,
    TraceContext,
)
from services.core.sampling import SamplingParams
from services.core.step_time import StepTimeModel
from services.wire import delivery, heartbeat, kv_events, queue, worker

REQUEST = QueuedRequest(
    request_id="req-1",
    attempt=2,
    model="m",
    prompt_token_ids=(1, 2, 3),
    sampling=SamplingParams(
        max_tokens=5,
        temperature=0.0,
        top_p=0.5,
        seed=-7,
        stop=("x",),
        repetition_penalty=1.25,
        presence_penalty=-0.5,
        frequency_penalty=0.75,
        logit_bias=((3, -100.0), (4, 1.5)),
        allowed_token_ids=(3, 4, 5),
        banned_token_ids=(5,),
        logprobs=0,
        prompt_logprobs=2,
    ),
    tenant="t",
    session_id="s",
    deadline_unix_ms=123,
    reply_to="127.0.0.1:1",
    request_class=RequestClass.BATCH,
    accepted_unix_ms=100,
)
LOAD = WorkerLoad(
    max_requests=4,
    num_running=1,
    num_waiting=2,
    num_free_blocks=3,
    num_blocks=10,
    block_size=32,
    num_pending_prefill_tokens=9,
    max_running=3,
)


def test_queued_request():
    assert queue.decode_queued_request(queue.encode_queued_request(REQUEST)) == REQUEST


@pytest.mark.parametrize("state", list(WorkerState))
def test_heartbeat(state: WorkerState):
    plain = WorkerHeartbeat("w", "a:1", "m", state, 7, LOAD)
    full = replace(
        plain,
        kv=KvState("digest", "layout", epoch=5, event_idx=6),
        step_time=StepTimeModel(1.0, 2.0, 3.0, 4.0, 5.0, 6),
        outputs=(TenantOutput("t", RequestClass.BATCH, 8),),
        cache_block_s=0.5,
        itl_target_s=0.05,
    )
    for beat in (plain, full):
        assert heartbeat.decode_heartbeat(heartbeat.encode_heartbeat(beat)) == beat


def test_kv_event():
    event = KvEvent("w", 3, 4, stored=(b"a" * 16, b"b" * 16), removed=(b"c" * 16,))
    assert kv_events.decode_kv_event(kv_events.encode_kv_event(event)) == event


@pytest.mark.parametrize("num_blocks", [0, 1, kv_events.BLOCKS_PER_PART + 1])
def test_a_list_of_blocks_comes_in_parts(num_blocks: int):
    held = tuple(idx.to_bytes(16, "big") for idx in range(num_blocks))
    snapshot = KvSnapshot("w", 3, 4, held)
    parts = list(kv_events.snapshot_to_pb(snapshot))
    assert len(parts) == 1 + num_blocks // kv_events.BLOCKS_PER_PART
    assert kv_events.snapshot_from_pb("w", parts) == snapshot


@given(st.binary(max_size=200))
def test_strange_bytes_on_a_subject_are_refused_and_never_crash(payload: bytes):
    for decode in (
        queue.decode_queued_request,
        heartbeat.decode_heartbeat,
        queue.decode_cancel,
        queue.decode_refusal,
        kv_events.decode_kv_event,
    ):
        with contextlib.suppress(InvalidRequest):
            decode(payload)


def test_submit():
    submissions = [Submission(REQUEST, TraceContext("00-a-b-01", "k=v"))]
    assert worker.submit_request_from_pb(worker.submit_request_to_pb(submissions)) == submissions
    kept = [Submission(REQUEST, encoded=queue.encode_queued_request(REQUEST))]
    assert worker.submit_request_from_pb(worker.submit_request_to_pb(kept)) == [Submission(REQUEST)]
    results = [SubmissionResult("r", outcome, "why") for outcome in SubmissionOutcome]
    assert worker.submit_response_from_pb(worker.submit_response_to_pb(results, LOAD)) == (
        results,
        LOAD,
    )


@pytest.mark.parametrize(
    "message",
    [
        WorkerHello("w"),
        Attach(1, "req-1", 2),
        StepFrame(
            9,
            [
                RequestDelta(1, 0, (5, 6)),
                RequestDelta(2, 3, (), FinishReason.ERROR, "no", 64),
                RequestDelta(
                    3,
                    0,
                    (5,),
                    logprobs=(TokenLogprobs(-0.5, (5, 6), (-0.5, -1.5)),),
                    prompt_logprobs=(TokenLogprobs(-2.0),),
                ),
            ],
        ),
        StepFrame(9, [], NextTokens((1, 2), (7, 8), (70, 80))),
    ],
)
def test_worker_messages(message):
    back = delivery.worker_message_from_pb(delivery.worker_message_to_pb(message))
    assert back == message


@pytest.mark.parametrize("message", [Attached(1, (4, 5)), Attached(2), Gone(3, "late"), Cancel(4)])
def test_gateway_messages(message):
    assert delivery.gateway_message_from_pb(delivery.gateway_message_to_pb(message)) == message


def test_a_frame_with_halves_missing_is_refused():
    message = delivery.worker_message_to_pb(StepFrame(9, [], NextTokens((1, 2), (7, 8), (70,))))
    with pytest.raises(InvalidRequest, match="next_handles"):
        delivery.worker_message_from_pb(message)
