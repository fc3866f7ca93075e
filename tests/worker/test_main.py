"""The real process, over real NATS: ready, serving, drained."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import nats
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tokenmill.v1.worker_pb2_grpc import WorkerServiceStub

from services.core.load import WorkerHeartbeat, WorkerState
from services.core.request import FinishReason, Submission, SubmissionOutcome
from services.core.sampling import SamplingParams
from services.wire.heartbeat import decode_heartbeat
from services.wire.subjects import HEARTBEATS_WILDCARD
from services.wire.worker import submit_request_to_pb, submit_response_from_pb
from tests.support.nats import NatsServer
from tests.worker.conditions import until
from tests.worker.fake_gateway import FakeGateway
from tests.worker.rig import MODEL, make_request

pytestmark = pytest.mark.flow


@dataclass
class RunningWorker:
    process: asyncio.subprocess.Process
    log: Path
    heard: list[WorkerHeartbeat] = field(default_factory=list)

    async def submit(self, request_id: str, gateway: FakeGateway) -> SubmissionOutcome:
        sampling = SamplingParams(max_tokens=30, temperature=0.0, seed=1)
        request = make_request(request_id, gateway.address, sampling=sampling)
        async with grpc.aio.insecure_channel(self.heard[-1].address) as channel:
            stub = WorkerServiceStub(channel)
            batch = submit_request_to_pb([Submission(request)])
            [result], _ = submit_response_from_pb(await stub.Submit(batch, timeout=10))
            return result.outcome


@pytest.fixture
async def running(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[RunningWorker]:
    client = await nats.connect(nats_server.url)
    log = tmp_path / "worker.log"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
        "TOKENMILL_ENGINE": "fake",
        "TOKENMILL_MODEL_NAME": MODEL,
        "TOKENMILL_NATS_URL": nats_server.url,
        "TOKENMILL_FAKE_STEP_TIME_S": "0.01",
        "TOKENMILL_DRAIN_TIMEOUT_S": "10",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker.main", env=environment, stdout=output, stderr=output
        )
    worker = RunningWorker(process, log)

    async def hear(message: nats.aio.msg.Msg) -> None:
        worker.heard.append(decode_heartbeat(message.data))

    await client.subscribe(HEARTBEATS_WILDCARD, cb=hear)
    try:
        await until(lambda: bool(worker.heard) or process.returncode is not None, timeout_s=30)
        assert worker.heard, log.read_text()
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await client.close()


async def test_a_worker_serves_and_drains_on_sigterm(running: RunningWorker) -> None:
    async with FakeGateway() as gateway:
        async with grpc.aio.insecure_channel(running.heard[0].address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            status = (await health.Check(health_pb2.HealthCheckRequest(), timeout=5)).status
            assert status == health_pb2.HealthCheckResponse.SERVING
        assert await running.submit("req-1", gateway) is SubmissionOutcome.ACCEPTED
        await until(lambda: bool(gateway.deltas("req-1")))
        running.process.send_signal(signal.SIGTERM)
        await until(lambda: running.heard[-1].state is WorkerState.DRAINING)
        assert await running.submit("req-2", gateway) is SubmissionOutcome.REFUSED
        await until(lambda: gateway.finish_reason("req-1") is FinishReason.LENGTH)
        assert len(gateway.token_ids("req-1")) == 30
        assert await asyncio.wait_for(running.process.wait(), 10) == 0
        assert gateway.num_open == 0


async def test_a_killed_worker_breaks_its_streams(running: RunningWorker) -> None:
    async with FakeGateway() as gateway:
        await running.submit("req-1", gateway)
        await until(lambda: bool(gateway.deltas("req-1")))
        running.process.kill()
        await until(lambda: gateway.num_open == 0)
        assert gateway.finish_reason("req-1") is None
