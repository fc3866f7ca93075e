"""Processes tell each other over a real broker which traces to keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import nats
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

from services.cli.traces.asking import Asking
from services.runtime import names
from services.runtime.tracing.buffer import TraceBuffer
from services.runtime.tracing.keeper import TraceKeeper
from services.runtime.tracing.light_tracer import LightTracer
from services.runtime.tracing.words import follow_trace_words


class Member:
    """A process: its spans, and what of them is exported."""

    def __init__(self, *, slow_ns: int | None = None, exports_each_s: int = 0) -> None:
        self._exporter = InMemorySpanExporter()
        self.keeper = TraceKeeper(
            BatchSpanProcessor(self._exporter, schedule_delay_millis=exports_each_s * 1000)
            if exports_each_s
            else SimpleSpanProcessor(self._exporter),
            Resource({}),
            TraceBuffer(max_spans=100),
            slow_ns=slow_ns,
        )
        self.tracer = LightTracer(ALWAYS_OFF, self.keeper.take)

    @property
    def exported(self) -> list[str]:
        return [span.name for span in self._exporter.get_finished_spans()]


@asynccontextmanager
async def talking(url: str, *members: Member) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(follow_trace_words(url, f"member-{idx}", one.keeper))
        for idx, one in enumerate(members)
    ]
    async with await nats.connect(url) as client:
        while True:
            # Each has its subscriptions once it answers: none has lost what was said before.
            before = [len(one.exported) for one in members]
            probe = [one.tracer.start_span("probe") for one in members]
            for span in probe:
                span.end()
            words = [f'["{span.get_span_context().trace_id:032x}"]' for span in probe]
            for word in words:
                await client.publish("tokenmill.traces.keep", word.encode())
            await client.flush()
            await asyncio.sleep(0.02)
            if all(len(one.exported) > num for one, num in zip(members, before, strict=True)):
                break
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


def serve(gateway: Member, worker: Member, request_id: str, *, fails: bool) -> None:
    door = gateway.tracer.start_span(
        "door", kind=SpanKind.SERVER, attributes={names.REQUEST_ID: request_id}
    )
    work = worker.tracer.start_span(f"work {request_id}", set_span_in_context(door))
    work.end()
    if fails:
        door.set_attribute(names.ERROR_TYPE, "INTERNAL")
        door.set_status(StatusCode.ERROR)
    door.end()


def work_of(member: Member) -> list[str]:
    return [name for name in member.exported if name != "probe"]


async def test_what_the_gateway_judges_is_kept_by_all(nats_server):
    gateway, worker = Member(slow_ns=10**12), Member()
    async with talking(nats_server.url, gateway, worker):
        serve(gateway, worker, "good", fails=False)
        serve(gateway, worker, "bad", fails=True)
        await until(lambda: bool(work_of(worker)))
    assert work_of(gateway) == ["door"]
    assert work_of(worker) == ["work bad"]


async def test_who_asks_in_time_has_a_request_kept_that_nobody_would_have(nats_server):
    gateway, worker = Member(slow_ns=10**12), Member()
    asking = Asking(nats_server.url)
    async with talking(nats_server.url, gateway, worker):
        for request_id in ("one", "two", "three"):
            serve(gateway, worker, request_id, fails=False)
        assert len(await asyncio.to_thread(asking.latencies)) == 3
        await asyncio.to_thread(asking.keep, "two")
        await until(lambda: bool(work_of(worker)))
        await asyncio.to_thread(asking.keep_latest)
        await until(lambda: len(work_of(worker)) == 2)
        assert len(await asyncio.to_thread(asking.latencies)) == 1
    assert work_of(worker) == ["work two", "work three"]
    assert work_of(gateway) == ["door", "door"]


async def test_what_is_on_its_way_leaves_at_once_when_somebody_waits(nats_server):
    member = Member(exports_each_s=60)
    span = member.tracer.start_span("work")
    span.end()
    member.keeper.keep(span.get_span_context().trace_id)
    asking = Asking(nats_server.url)
    listening = asyncio.create_task(follow_trace_words(nats_server.url, "member", member.keeper))
    async with asyncio.timeout(10):
        while not member.exported:
            await asyncio.to_thread(asking.export)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


def test_a_cluster_that_is_not_there_holds_nothing():
    assert Asking("nats://127.0.0.1:9").latencies() == []
