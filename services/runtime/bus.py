"""NATS: one connection per process, traced publishing and processing, the request stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from services.core.errors import DependencyLost, Overloaded
from services.runtime import names
from services.runtime.logs import get_logger
from services.runtime.metrics import (
    BUS_CONSUMED,
    BUS_OPERATION_DURATION,
    BUS_PROCESS_DURATION,
    BUS_SENT,
    exemplar,
)
from services.runtime.telemetry import context_from_headers, inject_headers, tracer
from services.wire.subjects import (
    DEAD_LETTERS_STREAM,
    DEAD_LETTERS_WILDCARD,
    MESSAGE_ID_HEADER,
    REQUESTS_STREAM,
    REQUESTS_WILDCARD,
)

log = get_logger(__name__)

PUBLISH_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 5.0
DUPLICATE_WINDOW_S = 120.0
MAX_DEAD_LETTERS = 1_000
MAX_DEAD_LETTER_BYTES = 64 << 20
DEAD_LETTERS_KEPT_S = 7 * 86_400.0
_QUEUE_FULL_CODES = {10047, 10077}  # "insufficient resources", "maximum messages exceeded"


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of the request stream; a publish beyond them is refused.

    Attributes:
        num_replicas: copies of the stream; 3 on a 3-node cluster.
    """

    max_messages: int = 10_000
    max_bytes: int = 1 << 30
    num_replicas: int = 1


class Bus:
    """A NATS connection. It reconnects for ever; meanwhile calls fail with DependencyLost."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT_S)

    @property
    def is_connected(self) -> bool:
        """Whether the broker is reachable now."""
        return self.client.is_connected

    async def publish(self, subject: str, payload: bytes) -> None:
        """Core NATS, best effort: lost if nobody listens or the broker is away."""
        if self.client.is_connected:
            await self.client.publish(subject, payload)
            BUS_SENT.labels("nats", "publish", _family(subject)).inc()

    async def ensure_requests_stream(self, limits: QueueLimits) -> None:
        """Creates work queue and dead letters, or brings existing ones to these limits."""
        requests = StreamConfig(
            name=REQUESTS_STREAM,
            subjects=[REQUESTS_WILDCARD],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            storage=StorageType.FILE,
            max_msgs=limits.max_messages,
            max_bytes=limits.max_bytes,
            num_replicas=limits.num_replicas,
            duplicate_window=DUPLICATE_WINDOW_S,
        )
        letters = StreamConfig(
            name=DEAD_LETTERS_STREAM,
            subjects=[DEAD_LETTERS_WILDCARD],
            # The latest are kept: they are for people, who look when they have time.
            discard=DiscardPolicy.OLD,
            storage=StorageType.FILE,
            max_msgs=MAX_DEAD_LETTERS,
            max_bytes=MAX_DEAD_LETTER_BYTES,
            max_age=DEAD_LETTERS_KEPT_S,
            num_replicas=limits.num_replicas,
        )
        for config in (requests, letters):
            try:
                await self.jetstream.add_stream(config)
            except nats.js.errors.BadRequestError:
                # It stands with other limits: ours are newer.
                await self.jetstream.update_stream(config)

    async def enqueue(
        self, subject: str, payload: bytes, *, message_id: str, template: str
    ) -> None:
        """Publishes to a stream and waits until it is kept, under a producer span.

        Raises:
            Overloaded: the stream is full.
            DependencyLost: no answer within PUBLISH_TIMEOUT_S.
        """
        with tracer.start_as_current_span(
            f"publish {template}",
            kind=SpanKind.PRODUCER,
            attributes={
                names.MESSAGING_SYSTEM: "nats",
                names.MESSAGING_OPERATION_NAME: "publish",
                names.MESSAGING_OPERATION_TYPE: "send",
                names.MESSAGING_DESTINATION_NAME: subject,
                names.MESSAGING_DESTINATION_TEMPLATE: template,
                names.MESSAGING_MESSAGE_ID: message_id,
            },
        ):
            headers = {MESSAGE_ID_HEADER: message_id}
            inject_headers(headers)
            try:
                with timed_operation("publish", template):
                    await self.jetstream.publish(
                        subject, payload, timeout=PUBLISH_TIMEOUT_S, headers=headers
                    )
                BUS_SENT.labels("nats", "publish", template).inc()
            except nats.js.errors.APIError as exc:
                if exc.err_code in _QUEUE_FULL_CODES:
                    raise Overloaded("the request queue is full", reason="QUEUE_FULL") from exc
                raise DependencyLost(f"the request queue refused: {exc.description}") from exc
            except (nats.errors.Error, nats.js.errors.Error, OSError) as exc:
                raise DependencyLost(f"the request queue does not answer: {exc!r}") from exc


@contextmanager
def timed_operation(name: str, template: str) -> Iterator[None]:
    """Counts how long the broker took to answer, and whether it failed.

    Args:
        name: publish, settle and the like.
        template: kind of subjects; few, since each is a series of its own.
    """
    started_s = time.perf_counter()
    error_type = ""
    try:
        yield
    except BaseException as exc:
        error_type = type(exc).__name__
        raise
    finally:
        BUS_OPERATION_DURATION.labels("nats", name, template, error_type).observe(
            time.perf_counter() - started_s
        )


@contextmanager
def processing(
    headers: Mapping[str, str] | None, *, subject: str, template: str, group: str
) -> Iterator[Span]:
    """Consumer span of one message, under the span that published it; current inside the block."""
    parent = context_from_headers({key.lower(): value for key, value in (headers or {}).items()})
    labels = ("nats", "process", template)
    BUS_CONSUMED.labels(*labels).inc()
    started_s = time.perf_counter()
    with tracer.start_as_current_span(
        f"process {template}",
        context=parent,
        kind=SpanKind.CONSUMER,
        attributes={
            names.MESSAGING_SYSTEM: "nats",
            names.MESSAGING_OPERATION_NAME: "process",
            names.MESSAGING_OPERATION_TYPE: "process",
            names.MESSAGING_DESTINATION_NAME: subject,
            names.MESSAGING_DESTINATION_TEMPLATE: template,
            names.MESSAGING_CONSUMER_GROUP: group,
        },
    ) as span:
        try:
            yield span
        finally:
            BUS_PROCESS_DURATION.labels(*labels).observe(
                time.perf_counter() - started_s, exemplar(span)
            )


def _family(subject: str) -> str:
    """The part of a subject that names neither model nor process."""
    return ".".join(subject.split(".", 2)[:2])


@asynccontextmanager
async def connect_bus(url: str, *, name: str) -> AsyncIterator[Bus]:
    """Connects, waiting for the broker as long as it takes, and closes at the end."""
    is_closing = False

    async def on_error(exc: Exception) -> None:
        log.warning("bus.failed", error=repr(exc))

    async def on_disconnected() -> None:
        if not is_closing:
            log.warning("bus.disconnected")

    async def on_reconnected() -> None:
        log.info("bus.reconnected")

    client = await nats.connect(
        servers=url.split(","),
        name=name,
        error_cb=on_error,
        disconnected_cb=on_disconnected,
        reconnected_cb=on_reconnected,
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,
        connect_timeout=2,
        ping_interval=10,
        max_outstanding_pings=2,
    )
    try:
        yield Bus(client)
    finally:
        is_closing = True
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await client.close()
        except (nats.errors.Error, OSError, RuntimeError) as exc:
            # nats-py still writes what is pending, to a socket that may be gone: uvloop raises.
            log.warning("bus.close_failed", error=repr(exc))


def mark_failed(span: Span, exc: BaseException) -> None:
    """Says on a span that its work failed."""
    span.set_attribute(names.ERROR_TYPE, type(exc).__name__)
    span.set_status(trace.Status(StatusCode.ERROR))
