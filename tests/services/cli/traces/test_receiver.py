import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, StatusCode

from services.cli.traces.asking import NOBODY
from services.cli.traces.otlp import MAX_MESSAGE_BYTES
from services.cli.traces.receiver import Receiver
from services.cli.traces.store import TraceStore

PROTOBUF = {"content-type": "application/x-protobuf"}


def spans_of_the_sdk() -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "tokenmill-gateway"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("root", kind=SpanKind.SERVER) as root:
        link = Link(root.get_span_context())
        attributes = {"tokenmill.request.id": "req-1", "n": 3, "list": ["a", "b"]}
        with tracer.start_as_current_span("child", attributes=attributes, links=[link]) as child:
            child.set_status(StatusCode.ERROR, "broken")
    return list(exporter.get_finished_spans())


@pytest.fixture
def store(tmp_path: Path):
    store = TraceStore(tmp_path / "traces.sqlite")
    yield store
    store.close()


@pytest.fixture
async def client(store: TraceStore, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Receiver(store, tmp_path / "traces.sqlite", NOBODY).app())
    async with httpx.AsyncClient(transport=transport, base_url="http://traces") as client:
        yield client


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_spans_of_the_sdk_arrive_whole(
    client: httpx.AsyncClient, store: TraceStore, encoding: str
):
    spans = spans_of_the_sdk()
    body = encode_spans(spans).SerializeToString()
    headers = dict(PROTOBUF)
    if encoding:
        body, headers["content-encoding"] = gzip.compress(body), encoding
    answer = await client.post("/v1/traces", content=body, headers=headers)
    assert answer.status_code == 200

    trace_id = store.find_trace("req-1")
    assert trace_id is not None
    root, child = store.spans_of(trace_id)
    assert (root.name, root.kind, root.parent_span_id) == ("root", "server", "")
    assert (child.name, child.kind, child.parent_span_id) == ("child", "internal", root.span_id)
    assert child.service == "tokenmill-gateway"
    assert child.attributes["n"] == 3
    assert child.attributes["list"] == ["a", "b"]
    assert child.attributes["status.message"] == "broken"
    assert child.is_error
    assert not root.is_error
    assert [link.span_id for link in child.links] == [root.span_id]
    assert root.start_ns <= child.start_ns <= child.end_ns <= root.end_ns


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff\xff", PROTOBUF, 400),
        (b"no gzip", PROTOBUF | {"content-encoding": "gzip"}, 400),
        (b"", PROTOBUF | {"content-encoding": "br"}, 400),
        (b"{}", {"content-type": "application/json"}, 400),
        (
            gzip.compress(bytes(MAX_MESSAGE_BYTES + 1)),
            PROTOBUF | {"content-encoding": "gzip"},
            413,
        ),
    ],
)
async def test_a_bad_export_is_refused(
    client: httpx.AsyncClient, body: bytes, headers: dict[str, str], status: int
):
    answer = await client.post("/v1/traces", content=body, headers=headers)
    assert answer.status_code == status


async def test_it_says_that_it_is_ready(client: httpx.AsyncClient):
    assert (await client.get("/readyz")).status_code == 200
