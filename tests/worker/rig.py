from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from tokenmill.v1.worker_pb2_grpc import WorkerServiceStub, add_WorkerServiceServicer_to_server

from services.core.load import WorkerLoad
from services.core.request import QueuedRequest, RequestClass, Submission, SubmissionResult
from services.core.sampling import SamplingParams
from services.core.step_time import StepTimeModel
from services.runtime.rpc_client import open_channel
from services.runtime.rpc_server import RpcServer
from services.wire.worker import submit_request_to_pb, submit_response_from_pb
from worker.cache.fetch import NoFetcher, PrefixFetcher
from worker.cache.offer import NoOffers, OfferQueue
from worker.delivery.attempt_runner import AttemptRunner
from worker.delivery.attempts import AttemptTable
from worker.delivery.gateway_streams import GatewayStreams
from worker.delivery.job import AdmissionRules, Job
from worker.delivery.step_router import StepRouter
from worker.engine.port import Engine
from worker.engine_bridge import EngineBridge
from worker.reports.load_signal import LoadSignal
from worker.reports.metrics import WorkerMetrics
from worker.reports.tenant_outputs import TenantOutputs
from worker.servicer import WorkerServicer

MODEL = "fake-model"


@dataclass(frozen=True)
class RigOptions:
    max_requests: int = 8
    max_queued_tokens: int = 65_536
    attach_timeout_s: float = 5.0
    idle_s: float = 60.0


@dataclass
class Rig:
    """A worker but for NATS, behind real gRPC."""

    runner: AttemptRunner
    table: AttemptTable[Job]
    streams: GatewayStreams
    load_signal: LoadSignal
    stub: Any

    async def submit(self, *requests: QueuedRequest) -> list[SubmissionResult]:
        return (await self.submit_for_load(*requests))[0]

    async def submit_for_load(
        self, *requests: QueuedRequest
    ) -> tuple[list[SubmissionResult], WorkerLoad]:
        batch = submit_request_to_pb([Submission(request) for request in requests])
        return submit_response_from_pb(await self.stub.Submit(batch, timeout=10))


@asynccontextmanager
async def rig(
    engine: Engine,
    options: RigOptions = RigOptions(),
    *,
    fetcher: PrefixFetcher | None = None,
    offers: OfferQueue | None = None,
) -> AsyncIterator[Rig]:
    table: AttemptTable[Job] = AttemptTable()
    load_signal = LoadSignal()
    streams = GatewayStreams(
        worker_id="worker-1", max_queued_tokens=options.max_queued_tokens, idle_s=options.idle_s
    )
    runner = AttemptRunner(
        engine,
        table,
        streams,
        fetcher or NoFetcher(),
        AdmissionRules(MODEL, options.max_requests),
        load_signal,
        worker_id="worker-1",
        attach_timeout_s=options.attach_timeout_s,
    )
    offers = offers or NoOffers()
    router = StepRouter(
        table,
        offers,
        runner.finished,
        TenantOutputs(),
        WorkerMetrics(
            MODEL, "worker-1", block_size=engine.load().block_size, step_time=StepTimeModel
        ),
        trace_steps=True,
    )
    engine.start(EngineBridge(asyncio.get_running_loop(), router.on_news, offers.has_room))
    server = RpcServer()
    server.add(
        add_WorkerServiceServicer_to_server, WorkerServicer(runner), "tokenmill.v1.WorkerService"
    )
    port = await server.start("127.0.0.1", 0)
    closing_idle = asyncio.create_task(streams.close_idle())
    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            yield Rig(runner, table, streams, load_signal, WorkerServiceStub(channel))
    finally:
        closing_idle.cancel()
        await asyncio.gather(closing_idle, return_exceptions=True)
        await streams.close(flush_timeout_s=0.5)
        await server.stop(0)
        engine.stop()


def make_request(request_id: str, reply_to: str, **changes: Any) -> QueuedRequest:
    now_ms = int(time.time() * 1000)
    request = QueuedRequest(
        request_id=request_id,
        attempt=1,
        model=MODEL,
        prompt_token_ids=tuple(range(10, 20)),
        sampling=SamplingParams(max_tokens=8, temperature=0.0, seed=1),
        tenant="tenant-a",
        session_id="",
        deadline_unix_ms=now_ms + 60_000,
        reply_to=reply_to,
        request_class=RequestClass.INTERACTIVE,
        accepted_unix_ms=now_ms,
    )
    return replace(request, **changes)
