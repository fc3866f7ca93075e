"""The scheduler as a process."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.services.scheduler.fake_cluster import FakeCluster, eventually
from tests.services.scheduler.requests import MODEL
from tests.support.nats import NatsServer, free_port

pytestmark = pytest.mark.flow


class SchedulerProcess:
    def __init__(self, url: str) -> None:
        self._url = url
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.scheduler.main",
            env=os.environ
            | {
                "TOKENMILL_NATS_URL": self._url,
                "TOKENMILL_MODEL_NAME": MODEL,
                "TOKENMILL_GRPC_PORT": str(self.port),
                "TOKENMILL_ACK_WAIT_S": "1",
            },
        )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(20):
            return await self.process.wait()

    async def is_serving(self) -> bool:
        return await self.health() == health_pb2.HealthCheckResponse.SERVING

    async def is_listening(self) -> bool:
        return await self.health() is not None

    async def health(self) -> int | None:
        """What the standard health service says; None if nobody listens."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(  # pyright: ignore[reportAttributeAccessIssue]
                    health_pb2.HealthCheckRequest(), timeout=2
                )
            except grpc.aio.AioRpcError:
                return None
        return answer.status


@pytest.fixture
async def process(nats_server: NatsServer) -> AsyncIterator[SchedulerProcess]:
    process = SchedulerProcess(nats_server.url)
    await process.start()
    yield process
    await process.stop(signal.SIGKILL)


async def test_the_process_serves_the_queue_and_drains_on_sigterm(
    process: SchedulerProcess, cluster: FakeCluster
):
    await eventually(process.is_serving)
    worker = await cluster.worker()
    await cluster.enqueue("a")
    assert await worker.wait_for_requests(1) == ["a"]
    assert await process.stop() == 0
    await cluster.queue_empty()


async def test_a_killed_process_loses_no_request(process: SchedulerProcess, cluster: FakeCluster):
    worker = await cluster.worker(max_requests=1)
    worker.gate.clear()
    await eventually(process.is_serving)
    await cluster.enqueue("a", "b")
    await worker.wait_for_requests(1)
    await process.stop(signal.SIGKILL)
    worker.gate.set()
    await process.start()
    await eventually(lambda: set(worker.accepted_ids) == {"a", "b"})
    await cluster.queue_empty()


async def test_the_process_waits_for_a_broker_that_is_not_there_and_stops_when_told():
    process = SchedulerProcess(f"nats://127.0.0.1:{free_port()}")
    await process.start()
    await eventually(process.is_listening)
    assert not await process.is_serving()
    assert await process.stop() == 0


async def test_the_process_stops_when_told_although_the_broker_is_away(
    process: SchedulerProcess, nats_server: NatsServer
):
    await eventually(process.is_serving)
    await asyncio.to_thread(nats_server.kill)
    assert await process.stop() == 0
