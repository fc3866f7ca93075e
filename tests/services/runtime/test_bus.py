import asyncio

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.core.errors import Overloaded
from services.runtime.bus import QueueLimits, connect_bus, processing
from services.runtime.names import REQUESTS_TEMPLATE
from services.wire.subjects import requests_subject
from tests.support.nats import NatsServer

SUBJECT = requests_subject("m", "batch")


async def test_a_full_queue_refuses_new_messages(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        await bus.ensure_requests_stream(QueueLimits(max_messages=1))
        await bus.enqueue(SUBJECT, b"1", message_id="1", template=REQUESTS_TEMPLATE)
        with pytest.raises(Overloaded, match="full"):
            await bus.enqueue(SUBJECT, b"2", message_id="2", template=REQUESTS_TEMPLATE)


async def test_limits_of_a_standing_queue_can_be_changed(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        await bus.ensure_requests_stream(QueueLimits(max_messages=1))
        await bus.ensure_requests_stream(QueueLimits(max_messages=2))
        for number in ("1", "2"):
            await bus.enqueue(SUBJECT, b"x", message_id=number, template=REQUESTS_TEMPLATE)


async def test_a_second_publish_of_the_same_attempt_is_dropped(nats_server: NatsServer):
    async with connect_bus(nats_server.url, name="test") as bus:
        await bus.ensure_requests_stream(QueueLimits())
        for _ in range(2):
            await bus.enqueue(SUBJECT, b"1", message_id="1", template=REQUESTS_TEMPLATE)
        info = await bus.jetstream.stream_info("TOKENMILL_REQUESTS")
        assert info.state.messages == 1


async def test_queued_messages_and_the_connection_survive_a_broker_restart(
    nats_server: NatsServer,
):
    async with connect_bus(nats_server.url, name="test") as bus:
        await bus.ensure_requests_stream(QueueLimits())
        await bus.enqueue(SUBJECT, b"1", message_id="1", template=REQUESTS_TEMPLATE)
        await asyncio.to_thread(nats_server.restart)
        async with asyncio.timeout(20):
            while not bus.is_connected:
                await asyncio.sleep(0.01)
        info = await bus.jetstream.stream_info("TOKENMILL_REQUESTS")
        assert info.state.messages == 1


async def test_a_connection_that_is_closed_is_no_loss_to_tell_of(nats_server: NatsServer):
    with structlog.testing.capture_logs() as lines:
        async with connect_bus(nats_server.url, name="test"):
            pass
    assert lines == []


async def test_the_process_span_hangs_below_the_publish_span(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("services.runtime.bus.tracer", provider.get_tracer("test"))
    async with connect_bus(nats_server.url, name="test") as bus:
        await bus.ensure_requests_stream(QueueLimits())
        reader = await bus.jetstream.pull_subscribe(SUBJECT, durable="test")
        await bus.enqueue(SUBJECT, b"1", message_id="1", template=REQUESTS_TEMPLATE)
        (message,) = await reader.fetch(1, timeout=5)
        with processing(message.headers, subject=SUBJECT, template=REQUESTS_TEMPLATE, group="test"):
            await message.ack_sync()
    published, processed = exporter.get_finished_spans()
    assert (published.kind, processed.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
    assert processed.parent is not None
    assert published.context is not None
    assert processed.parent.span_id == published.context.span_id
