"""The trace of a request through the scheduler: who is whose parent, and when spans end."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.core.request import SubmissionOutcome
from services.runtime import names
from tests.services.scheduler.fake_cluster import FakeCluster, eventually
from tests.services.scheduler.requests import queued

PUBLISH = f"publish {names.REQUESTS_TEMPLATE}"
PROCESS = f"process {names.REQUESTS_TEMPLATE}"
SUBMIT = "tokenmill.v1.WorkerService/Submit"
PLACE = names.SPAN_SCHEDULER_PLACE
BATCH = names.SPAN_SCHEDULER_BATCH


class Spans:
    """Finished spans of the test."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    async def wait_for(self, name: str, count: int) -> list[ReadableSpan]:
        await eventually(lambda: len(self.named(name)) >= count)
        return self.named(name)

    def edges(self) -> set[tuple[str, str]]:
        """(parent, child) names; the parent of a span whose parent is unknown is "orphan"."""
        spans = self._exporter.get_finished_spans()
        by_id = {span.context.span_id: span.name for span in spans if span.context}
        return {
            (by_id.get(span.parent.span_id, "orphan") if span.parent else "", span.name)
            for span in spans
        }


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in (
        "runtime.bus",
        "runtime.rpc_client",
        "runtime.rpc_server",
        "scheduler.submission",
    ):
        monkeypatch.setattr(f"services.{module}.tracer", provider.get_tracer("test"))
    yield Spans(exporter)
    provider.shutdown()


def attribute(span: ReadableSpan, name: str) -> object:
    return (span.attributes or {})[name]


async def test_a_request_leaves_one_trace_without_orphans(cluster: FakeCluster, spans: Spans):
    await cluster.worker()
    await cluster.start_scheduler()
    await cluster.enqueue("a")
    await spans.wait_for(PROCESS, 1)
    await spans.wait_for(SUBMIT, 2)
    assert spans.edges() == {
        ("", PUBLISH),
        (PUBLISH, PROCESS),
        (PROCESS, PLACE),
        (PLACE, SUBMIT),  # the client's
        (SUBMIT, SUBMIT),  # the server's
    }


async def test_the_consumer_span_tells_request_and_wait(cluster: FakeCluster, spans: Spans):
    await cluster.worker()
    await cluster.start_scheduler()
    await cluster.enqueue("a")
    (process,) = await spans.wait_for(PROCESS, 1)
    assert attribute(process, names.REQUEST_ID) == "a"
    assert attribute(process, names.ATTEMPT) == 1
    assert attribute(process, names.OUTCOME) == "accepted"
    assert 0 <= float(str(attribute(process, names.QUEUE_WAIT_MS))) < 20_000


async def test_the_placement_of_a_request_goes_with_its_submission(
    cluster: FakeCluster, spans: Spans
):
    worker = await cluster.worker()
    await cluster.start_scheduler()
    await cluster.enqueue("a")
    (place,) = await spans.wait_for(PLACE, 1)
    assert place.context is not None
    assert f"{place.context.span_id:016x}" in worker.batches[0][0].trace.traceparent
    assert attribute(place, names.WORKER_ID) == "w1"
    assert attribute(place, names.BATCH_SIZE) == 1


async def test_each_try_to_place_is_a_span_of_its_own(cluster: FakeCluster, spans: Spans):
    worker = await cluster.worker()
    worker.outcomes.append(SubmissionOutcome.REFUSED)
    await cluster.start_scheduler()
    await cluster.enqueue("a")
    places = await spans.wait_for(PLACE, 2)
    (process,) = await spans.wait_for(PROCESS, 1)
    assert [attribute(place, names.OUTCOME) for place in places] == ["refused", "accepted"]
    assert process.context is not None
    assert {place.parent.span_id for place in places if place.parent} == {process.context.span_id}
    assert process.end_time is not None
    assert all(place.end_time and place.end_time <= process.end_time for place in places)


async def test_a_batch_links_the_placements_of_its_requests(cluster: FakeCluster, spans: Spans):
    worker = await cluster.worker()
    await cluster.start_scheduler(max_batch_size=2, max_wait_ms=20_000, wait_while_idle=True)
    await cluster.enqueue("a", "b")
    await worker.wait_for_requests(2)
    await spans.wait_for(PROCESS, 2)
    (batch,) = await spans.wait_for(BATCH, 1)
    places = spans.named(PLACE)
    assert batch.parent is None
    assert attribute(batch, names.BATCH_SIZE) == 2
    assert {link.context.span_id for link in batch.links} == {
        place.context.span_id for place in places if place.context
    }
    assert "orphan" not in {parent for parent, _ in spans.edges()}


async def test_a_failed_submission_marks_its_placement(cluster: FakeCluster, spans: Spans):
    dead = await cluster.worker("w1")
    await cluster.start_scheduler()
    await dead.close_port()
    await cluster.enqueue("a")
    place = (await spans.wait_for(PLACE, 1))[0]
    assert attribute(place, names.ERROR_TYPE) == "DependencyLost"


async def test_an_expired_request_ends_its_span_without_a_placement(
    cluster: FakeCluster, spans: Spans
):
    await cluster.worker()
    await cluster.start_scheduler()
    await cluster.enqueue(queued("a", deadline_unix_ms=1))
    (process,) = await spans.wait_for(PROCESS, 1)
    assert attribute(process, names.OUTCOME) == "expired"
    assert spans.named(PLACE) == []
