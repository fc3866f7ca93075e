"""Workers that accept all at once and note when it came: `python -m benchmarks.scheduler.workers`.

Orders, one JSON line each: `{"do": "arrivals"}` hands out what came since the last time, by request
id, in seconds of the wall clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc
import structlog
import uvloop
from tokenmill.v1 import worker_pb2
from tokenmill.v1.worker_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server

from services.core.load import WorkerHeartbeat, WorkerLoad, WorkerState
from services.core.request import SubmissionOutcome, SubmissionResult
from services.runtime.bus import connect_bus
from services.runtime.lifecycle import spare_pauses
from services.runtime.rpc_server import SERVER_OPTIONS
from services.wire.heartbeat import encode_heartbeat
from services.wire.subjects import heartbeat_subject
from services.wire.worker import submit_response_to_pb

BEAT_S = 0.5
LOAD = WorkerLoad(
    max_requests=256,
    num_running=0,
    num_waiting=0,
    num_free_blocks=1_000,
    num_blocks=1_000,
    block_size=32,
    num_pending_prefill_tokens=0,
    max_running=256,
)


class FakeWorker(WorkerServiceServicer):
    """Done with everything as soon as it comes."""

    def __init__(self, arrivals: dict[str, float]) -> None:
        self._arrivals = arrivals

    async def Submit(self, request: worker_pb2.SubmitRequest, context: object) -> Any:
        """Accepts."""
        now_s = time.time()
        results: list[SubmissionResult] = []
        for entry in request.submissions:
            # Nothing else of it is read: what is measured is who sends it.
            request_id = entry.request.request_id
            self._arrivals.setdefault(request_id, now_s)
            results.append(SubmissionResult(request_id, SubmissionOutcome.ACCEPTED))
        return submit_response_to_pb(results, LOAD)


async def _serve(nats_url: str, model: str, num_workers: int) -> None:
    arrivals: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect_bus(nats_url, name="fake-workers"))
        addresses: dict[str, str] = {}
        for idx in range(num_workers):
            server = grpc.aio.server(options=SERVER_OPTIONS)
            add_WorkerServiceServicer_to_server(FakeWorker(arrivals), server)
            addresses[f"worker-{idx}"] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()
            stack.push_async_callback(server.stop, 0)

        async def beat() -> None:
            beat_idx = 0
            while True:
                beat_idx += 1
                for worker_id, address in addresses.items():
                    heartbeat = WorkerHeartbeat(
                        worker_id, address, model, WorkerState.READY, beat_idx, LOAD
                    )
                    subject = heartbeat_subject(model, worker_id)
                    await bus.publish(subject, encode_heartbeat(heartbeat))
                await asyncio.sleep(BEAT_S)

        beating = asyncio.create_task(beat())
        spare_pauses()
        _say({"ready": True})
        # A thread reads, so that the loop goes on serving meanwhile.
        while await asyncio.to_thread(sys.stdin.readline):
            _say({"arrivals": dict(arrivals)})
            arrivals.clear()
        beating.cancel()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # stdout is for answers.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            _serve(
                os.environ["TOKENMILL_NATS_URL"],
                os.environ["TOKENMILL_MODEL_NAME"],
                int(os.environ["TOKENMILL_BENCH_WORKERS"]),
            )
        )
