"""Spans of a request and of steps: who is below whom, and when they end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.core.request import Submission, TraceContext
from services.runtime import names, rpc_client
from services.runtime.rpc_client import open_channel
from tests.worker.cache.test_offer import running_offers
from tests.worker.conditions import until
from tests.worker.fake_cache import FakeCache
from tests.worker.fake_gateway import FakeGateway, gone
from tests.worker.rig import Rig, make_request, rig
from worker.cache import fetch, offer
from worker.cache.client import CacheClient
from worker.cache.fetch import CacheFetcher, FetchTimeouts
from worker.delivery.circuit_breaker import CircuitBreaker
from worker.engine.fake_engine import FakeEngine
from worker.reports import spans

PLACEMENT = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "")
PLACEMENT_SPAN_ID = 0xB7AD6B7169203331


class Recorder:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    def named(self, name: str) -> Sequence[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    for module in (spans, fetch, offer, rpc_client):
        monkeypatch.setattr(module, "tracer", recorder.tracer)
    return recorder


def is_below(child: ReadableSpan, parent: ReadableSpan) -> bool:
    return child.parent is not None and child.parent.span_id == parent.context.span_id


async def answer(worker: Rig, gateway: FakeGateway, request_id: str = "req-1") -> None:
    request = make_request(request_id, gateway.address, prompt_token_ids=tuple(range(100, 200)))
    await worker.runner.submit(Submission(request, PLACEMENT))
    await until(lambda: gateway.finish_reason(request_id) is not None)
    await until(lambda: len(worker.table) == 0)


async def test_a_request_span_hangs_below_its_placement_with_prefill_and_decode_below_it(
    recorder: Recorder,
) -> None:
    async with FakeGateway() as gateway, rig(FakeEngine()) as worker:
        await answer(worker, gateway)
    request = recorder.one(names.SPAN_WORKER_REQUEST)
    assert request.parent is not None
    assert request.parent.span_id == PLACEMENT_SPAN_ID
    assert request.attributes is not None
    assert request.attributes[names.REQUEST_ID] == "req-1"
    assert request.attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS] == 8
    assert request.attributes[names.OUTCOME] == "accepted"
    prefill, decode = (
        recorder.one(names.SPAN_ENGINE_PREFILL),
        recorder.one(names.SPAN_ENGINE_DECODE),
    )
    assert is_below(prefill, request)
    assert is_below(decode, request)
    assert prefill.attributes is not None
    assert decode.attributes is not None
    assert prefill.attributes[names.NUM_TOKENS] == 100
    assert decode.attributes[names.NUM_TOKENS] == 7
    assert prefill.end_time == decode.start_time
    assert decode.end_time is not None
    assert request.end_time is not None
    assert decode.end_time <= request.end_time


async def test_each_step_is_a_root_span_that_links_to_its_requests(recorder: Recorder) -> None:
    async with FakeGateway() as gateway, rig(FakeEngine()) as worker:
        await asyncio.gather(answer(worker, gateway, "req-1"), answer(worker, gateway, "req-2"))
    requests = {
        span.context.span_id for span in recorder.named(names.SPAN_WORKER_REQUEST)
    }  # fmt: skip
    steps = recorder.named(names.SPAN_ENGINE_STEP)
    assert len(steps) >= 8
    assert all(step.parent is None for step in steps)
    assert {link.context.span_id for step in steps for link in step.links} == requests


async def test_a_gone_request_ends_its_spans(recorder: Recorder) -> None:
    async with FakeGateway(answer=gone) as gateway, rig(FakeEngine()) as worker:
        await worker.runner.submit(Submission(make_request("req-1", gateway.address), PLACEMENT))
        await until(lambda: len(worker.table) == 0)
    request = recorder.one(names.SPAN_WORKER_REQUEST)
    assert request.attributes is not None
    assert request.attributes[names.OUTCOME] == "gone"


async def test_cache_calls_hang_below_fetch_and_offer_of_the_request(recorder: Recorder) -> None:
    engine = FakeEngine()
    async with (
        FakeCache() as cache,
        FakeGateway() as gateway,
        open_channel(cache.address) as channel,
        running_offers(cache.address) as offers,
    ):
        fetcher = CacheFetcher(
            engine, CacheClient(channel), CircuitBreaker(), FetchTimeouts(5, 5, 0)
        )
        async with rig(engine, fetcher=fetcher, offers=offers) as worker:
            await answer(worker, gateway)
            await offers.flush(5)
        await until(lambda: len(recorder.named("tokenmill.v1.CacheService/Put")) == 1)
    request = recorder.one(names.SPAN_WORKER_REQUEST)
    fetch, offer = recorder.one(names.SPAN_CACHE_FETCH), recorder.one(names.SPAN_CACHE_OFFER)
    assert is_below(fetch, request)
    assert is_below(offer, request)
    lookups = recorder.named("tokenmill.v1.CacheService/Lookup")
    assert [is_below(lookups[0], fetch), is_below(lookups[1], offer)] == [True, True]
    assert is_below(recorder.one("tokenmill.v1.CacheService/Put"), offer)
