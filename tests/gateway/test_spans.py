from collections.abc import Iterator

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from tokenmill.v1.inference_pb2_grpc import InferenceServiceStub

from services.core.request import FinishReason
from services.runtime import names
from services.wire.inference import GenerateCall, generate_request_to_pb
from tests.gateway.conftest import Served
from tests.gateway.fake_cluster import MODEL, fake_worker

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in ("gateway.requests.record", "gateway.http.door", "services.runtime.rpc_server"):
        monkeypatch.setattr(f"{module}.tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def span_named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    (span,) = [span for span in exporter.get_finished_spans() if span.name == name]
    return span


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def parent_id(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


async def test_http_request_is_one_trace_with_the_callers(working: Served, client, exporter):
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    headers = {"traceparent": CALLER, "x-request-id": "mine"}
    reply = await client.post("/v1/chat/completions", json=body, headers=headers)
    door = span_named(exporter, "POST /v1/chat/completions")
    chat = span_named(exporter, f"chat {MODEL}")
    assert door.kind is SpanKind.SERVER
    assert chat.kind is SpanKind.INTERNAL
    assert parent_id(door) == 0xB7AD6B7169203331
    assert parent_id(chat) == span_id(door)
    assert f"{span_id(chat):016x}" in working.cluster.queue.traces[0].traceparent
    assert f"{span_id(door):016x}" in reply.headers["traceparent"]
    assert door.attributes is not None
    assert door.attributes[names.REQUEST_ID] == "mine"
    assert chat.attributes is not None
    assert chat.attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 2
    assert chat.attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] == ("length",)
    assert names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK in chat.attributes


async def test_a_later_attempt_is_published_in_the_same_trace(served: Served, exporter):
    queue = served.cluster.queue
    async with grpc.aio.insecure_channel(served.grpc_target) as channel:
        message = generate_request_to_pb(GenerateCall(prompt="a"))
        call = InferenceServiceStub(channel).Generate(message, timeout=10)
        request = await queue.next_attempt()
        async with fake_worker(served.grpc_target) as worker:
            await worker.attach(request.request_id, 1)
            worker.die()
        await queue.next_attempt()
        async with fake_worker(served.grpc_target) as worker:
            await worker.attach(request.request_id, 2)
            await worker.deliver(1, 0, [0], FinishReason.STOP)
            assert [message.text async for message in call] == ["a"]
    door = span_named(exporter, "tokenmill.v1.InferenceService/Generate")
    completion = span_named(exporter, f"text_completion {MODEL}")
    assert parent_id(completion) == span_id(door)
    assert queue.traces[0] == queue.traces[1]
    assert f"{span_id(completion):016x}" in queue.traces[1].traceparent
    assert completion.attributes is not None
    assert completion.attributes[names.ATTEMPT] == 2


async def test_probes_have_no_spans(served: Served, client, exporter):
    for path in ("/livez", "/readyz", "/metrics"):
        await client.get(path)
    assert exporter.get_finished_spans() == ()
