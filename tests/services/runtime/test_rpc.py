import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tokenmill.v1 import cache_pb2_grpc

from services.core.errors import DeadlineExceeded, DependencyLost, InvalidRequest, TokenmillError
from services.runtime import telemetry
from services.runtime.rpc_client import TracedCall, open_channel, peer_errors
from services.runtime.rpc_server import RpcServer
from services.wire.cache import (
    BlockQuery,
    get_request_to_pb,
    lookup_request_to_pb,
    lookup_response_to_pb,
)

NAME = "tokenmill.v1.CacheService"


class FakeCacheServicer(cache_pb2_grpc.CacheServiceServicer):
    """Does what the test says on every call."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.seen_traceparent = ""
        self.never = asyncio.Event()
        self.started = asyncio.Event()
        self.was_cancelled = asyncio.Event()

    async def Lookup(self, request: Any, context: Any) -> Any:
        self.seen_traceparent = telemetry.current_trace().traceparent
        if self.failure is not None:
            raise self.failure
        return lookup_response_to_pb(1, 1)

    async def Get(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.started.set()
        try:
            await self.never.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        yield None


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr("services.runtime.rpc_server.tracer", tracer)
    monkeypatch.setattr("services.runtime.rpc_client.tracer", tracer)
    return exporter


@pytest.fixture
async def servicer() -> FakeCacheServicer:
    return FakeCacheServicer()


@pytest.fixture
async def address(servicer: FakeCacheServicer) -> AsyncIterator[str]:
    server = RpcServer()
    server.add(cache_pb2_grpc.add_CacheServiceServicer_to_server, servicer, NAME)
    port = await server.start("127.0.0.1", 0)
    await server.set_ready(True)
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture
async def stub(address: str) -> AsyncIterator[Any]:
    channel = open_channel(address)
    yield cache_pb2_grpc.CacheServiceStub(channel)
    await channel.close()


async def lookup(stub: Any, timeout_s: float = 5) -> Any:
    with peer_errors("cache"):
        return await stub.Lookup(lookup_request_to_pb(BlockQuery((), "")), timeout=timeout_s)


async def test_a_core_error_arrives_as_itself(stub: Any, servicer: FakeCacheServicer):
    servicer.failure = InvalidRequest("n is 2; allowed: 1", field="n")
    with pytest.raises(InvalidRequest) as caught:
        await lookup(stub)
    assert caught.value.field == "n"


async def test_a_bug_arrives_as_internal_without_its_text(stub: Any, servicer: FakeCacheServicer):
    servicer.failure = ValueError("secret")
    with pytest.raises(TokenmillError) as caught:
        await lookup(stub)
    assert "secret" not in caught.value.message


async def test_nobody_there_is_a_lost_dependency():
    async with open_channel("127.0.0.1:1") as channel:
        with pytest.raises(DependencyLost, match="cache"):
            await lookup(cache_pb2_grpc.CacheServiceStub(channel))


async def test_a_deadline_cancels_the_servicer(stub: Any, servicer: FakeCacheServicer):
    with pytest.raises(DeadlineExceeded), peer_errors("cache"):
        await anext(aiter(stub.Get(get_request_to_pb([], ""), timeout=0.05)))
    await asyncio.wait_for(servicer.was_cancelled.wait(), 5)


@pytest.mark.parametrize("is_intercepted", [True, False])
async def test_client_and_server_span_are_parent_and_child(
    address: str, servicer: FakeCacheServicer, spans: InMemorySpanExporter, is_intercepted: bool
):
    async with open_channel(address, traces_unary=is_intercepted) as channel:
        stub = cache_pb2_grpc.CacheServiceStub(channel)
        if is_intercepted:
            await lookup(stub)
        else:
            call = TracedCall(address, f"{NAME}/Lookup", stub.Lookup)
            await call(lookup_request_to_pb(BlockQuery((), "")), timeout_s=5)
    while len(spans.get_finished_spans()) < 2:
        await asyncio.sleep(0)
    by_kind = {span.kind: span for span in spans.get_finished_spans()}
    client, server = by_kind[trace.SpanKind.CLIENT], by_kind[trace.SpanKind.SERVER]
    assert client.name == server.name == f"{NAME}/Lookup"
    assert server.parent is not None
    assert client.context is not None
    assert server.parent.span_id == client.context.span_id
    assert f"{client.context.trace_id:032x}" in servicer.seen_traceparent


async def test_a_traced_call_says_in_its_span_how_it_failed(
    address: str, servicer: FakeCacheServicer, spans: InMemorySpanExporter
):
    servicer.failure = InvalidRequest("n is 2; allowed: 1", field="n")
    async with open_channel(address, traces_unary=False) as channel:
        call = TracedCall(
            address, f"{NAME}/Lookup", cache_pb2_grpc.CacheServiceStub(channel).Lookup
        )
        with pytest.raises(InvalidRequest), peer_errors("cache"):
            await call(lookup_request_to_pb(BlockQuery((), "")), timeout_s=5)
    client = next(s for s in spans.get_finished_spans() if s.kind is trace.SpanKind.CLIENT)
    assert client.attributes is not None
    assert client.attributes["error.type"] == "INVALID_ARGUMENT"
    assert not client.status.is_ok


async def test_a_cancelled_stream_ends_its_spans(
    stub: Any, servicer: FakeCacheServicer, spans: InMemorySpanExporter
):
    call = stub.Get(get_request_to_pb([], ""), timeout=30)
    reader = asyncio.ensure_future(anext(aiter(call), None))
    await asyncio.wait_for(servicer.started.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    while len(spans.get_finished_spans()) < 2:
        await asyncio.sleep(0)
    assert {span.attributes["rpc.status_code"] for span in spans.get_finished_spans()} == {
        "CANCELLED"
    }


@pytest.mark.parametrize("service", ["", NAME])
async def test_health_says_whether_the_process_is_ready(service: str):
    server = RpcServer()
    server.add(cache_pb2_grpc.add_CacheServiceServicer_to_server, FakeCacheServicer(), NAME)
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        before = await stub.Check(request, timeout=5)
        await server.set_ready(True)
        after = await stub.Check(request, timeout=5)
    await server.stop(0)
    assert before.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert after.status == health_pb2.HealthCheckResponse.SERVING
