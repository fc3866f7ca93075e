"""The gateway process."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from tokenmill.kserve import open_inference_pb2_grpc
from tokenmill.v1 import delivery_pb2_grpc, inference_pb2_grpc

from gateway.access.authenticator import Authenticator
from gateway.access.key_ring import KeyRing
from gateway.access.token_verifier import verifier_of
from gateway.catalog import Catalog, Tokenizing
from gateway.grpc.inference_servicer import InferenceServicer
from gateway.grpc.open_inference_servicer import OpenInferenceServicer
from gateway.http.app import HttpParts, build_app
from gateway.http.responses.shelf import Shelf
from gateway.http.server import HttpServer
from gateway.intake import Intake
from gateway.live_view.heartbeats import follow_heartbeats
from gateway.live_view.recent import RECENT
from gateway.live_view.snapshot import LiveView
from gateway.live_view.worker_board import WorkerBoard
from gateway.metrics import watch_live_requests
from gateway.prompts import PromptReader
from gateway.queue.dead_letter_watch import DeadLetterWatch
from gateway.queue.dispatch import Dispatcher, RequestBus
from gateway.queue.queue_watch import QueueWatch
from gateway.queue.refusal_watch import RefusalWatch
from gateway.quota.quotas import Quotas
from gateway.quota.usage_book import UsageBook
from gateway.readiness import Readiness, follow_readiness
from gateway.requests.live_requests import LiveRequests
from gateway.results.result_cache import ResultCache
from gateway.sessions.sessions import Sessions
from gateway.settings import GatewaySettings
from gateway.stores import Stores, open_stores
from gateway.tokenizer_client import TokenizerClient
from gateway.workers.delivery_servicer import DeliveryServicer
from services.core.caller import NO_LIMITS, Limits
from services.core.errors import Overloaded
from services.runtime.addresses import own_address
from services.runtime.bus import Bus, connect_bus
from services.runtime.lifecycle import Process, run_process
from services.runtime.logs import get_logger
from services.runtime.rpc_client import open_channel
from services.runtime.rpc_server import RpcServer
from services.runtime.tls import Certificates
from services.wire.subjects import DEAD_LETTERS_WILDCARD, QUEUE_STATUS_WILDCARD, REFUSALS

log = get_logger(__name__)

STREAM_PAUSE_S = 0.5
STOP_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts that start, stop and are watched."""

    settings: GatewaySettings
    tokenizer: Tokenizing
    catalog: Catalog
    live_requests: LiveRequests
    intake: Intake
    queue: QueueWatch
    readiness: Readiness
    rpc: RpcServer
    http: HttpServer
    ring: KeyRing | None
    quotas: Quotas
    usage: UsageBook
    certificates: Certificates | None
    live_view: LiveView

    async def listen(self) -> tuple[int, int]:
        """Opens both doors; returns HTTP and gRPC port.

        Raises:
            OSError: an address is taken.
        """
        settings = self.settings
        http_port = self.http.bind(settings.host, settings.http_port)
        tls = self.certificates
        # Workers bring no certificate; with TLS they deliver on a port of their own.
        delivery_port = self.rpc.listen(settings.host, settings.delivery_port) if tls else None
        grpc_port = await self.rpc.start(
            settings.host, settings.grpc_port, tls.grpc_credentials() if tls else None
        )
        self.intake.reply_to = settings.advertise_address or own_address(
            settings.host, delivery_port or grpc_port, broker_url=settings.nats_url
        )
        log.info(
            "gateway.listening",
            http_port=http_port,
            grpc_port=grpc_port,
            advertise_address=self.intake.reply_to,
        )
        return http_port, grpc_port

    async def drain(self) -> None:
        """Takes nothing new and waits for what runs; what takes too long is told so."""
        log.info("drain.started", num_requests=len(self.live_requests))
        self.intake.is_draining = True
        await self.rpc.set_ready(False)
        if not await self.intake.wait_idle(timeout_s=self.settings.drain_timeout_s):
            log.warning("drain.cut_off", num_requests=len(self.live_requests))
            self.intake.fail_all(Overloaded("the gateway was shut down", retry_after_s=1.0))
            await self.intake.wait_idle(timeout_s=STOP_GRACE_S)
        self.http.stop()


def build(
    settings: GatewaySettings,
    *,
    bus: RequestBus,
    is_bus_connected: Callable[[], bool],
    stores: Stores,
    tokenizer: Tokenizing,
    tasks: asyncio.TaskGroup,
) -> Gateway:
    """Puts the parts together; nothing runs yet."""
    certificates = settings.tls_certificates()
    ring = KeyRing() if settings.asks_for_keys else None
    authenticator = Authenticator(ring, verifier_of(settings))
    catalog = Catalog()
    live_requests = LiveRequests(
        max_requests=settings.max_live_requests, max_untaken_tokens=settings.max_untaken_tokens
    )
    dispatcher = Dispatcher(bus, tasks)
    quotas = Quotas(
        stores.quotas,
        f"{settings.instance_id}.{secrets.token_hex(4)}",
        ring.limits_of if ring is not None else _no_limits,
    )
    usage = UsageBook(stores.usage)
    sessions = Sessions(stores.sessions, tasks, max_session_bytes=settings.max_session_bytes)
    prompts = PromptReader(tokenizer)
    queue = QueueWatch()
    board = WorkerBoard()
    results = ResultCache(
        stores.results,
        max_entry_bytes=settings.max_session_bytes,
        identity_of=lambda model: board.identity_of(model, time.monotonic()),
    )
    intake = Intake(
        catalog=catalog,
        prompts=prompts,
        live_requests=live_requests,
        dispatcher=dispatcher,
        queue=queue,
        sessions=sessions,
        quotas=quotas,
        usage=usage,
        results=results,
        default_max_tokens=settings.default_max_tokens,
    )
    readiness = Readiness(catalog, intake, is_bus_connected, ring)
    rpc = RpcServer()
    rpc.add(
        delivery_pb2_grpc.add_DeliveryServiceServicer_to_server,
        DeliveryServicer(
            live_requests, dispatcher, max_worker_messages=settings.max_worker_messages
        ),
        "tokenmill.v1.DeliveryService",
    )
    rpc.add(
        inference_pb2_grpc.add_InferenceServiceServicer_to_server,
        InferenceServicer(
            intake, catalog, authenticator, request_timeout_s=settings.request_timeout_s
        ),
        "tokenmill.v1.InferenceService",
    )
    rpc.add(
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server,
        OpenInferenceServicer(
            intake, catalog, authenticator, readiness, request_timeout_s=settings.request_timeout_s
        ),
        "inference.GRPCInferenceService",
    )
    live_view = LiveView(settings.instance_id, live_requests, readiness, RECENT, queue, board)
    app = build_app(
        HttpParts(
            intake=intake,
            catalog=catalog,
            prompts=prompts,
            readiness=readiness,
            authenticator=authenticator,
            usage=usage,
            shelf=Shelf(stores.responses, max_bytes=2 * settings.max_session_bytes),
            sessions=sessions,
            live_view=live_view,
            traces_url=settings.traces_url,
            tasks=tasks,
        ),
        cors_origins=settings.cors_origins,
        max_body_bytes=settings.max_body_bytes,
        request_timeout_s=settings.request_timeout_s,
    )
    http = HttpServer(
        app,
        drain_timeout_s=settings.drain_timeout_s,
        tls=certificates.context if certificates is not None else None,
    )
    return Gateway(
        settings,
        tokenizer,
        catalog,
        live_requests,
        intake,
        queue,
        readiness,
        rpc,
        http,
        ring,
        quotas,
        usage,
        certificates,
        live_view,
    )


def _no_limits(tenant: str) -> Limits:
    """Where nobody is asked who he is, nobody is limited."""
    return NO_LIMITS


async def run(process: Process[GatewaySettings]) -> None:
    """Connects, serves both doors until told to stop, and drains."""
    settings = process.settings
    connecting = process.stack.enter_async_context(
        connect_bus(settings.nats_url, name=f"gateway-{settings.instance_id}")
    )
    bus = await process.unless_stopped(connecting)
    if bus is None:
        return
    channel = open_channel(settings.tokenizer_target, traces_unary=False)
    process.stack.push_async_callback(channel.close)
    stores = open_stores(bus, settings)
    gateway = build(
        settings,
        bus=bus,
        is_bus_connected=lambda: bus.is_connected,
        stores=stores,
        tokenizer=TokenizerClient(
            channel, settings.tokenizer_target, patience_s=settings.tokenizer_timeout_s
        ),
        tasks=process.tasks,
    )
    watch_live_requests(gateway.live_requests, max_tenants=settings.metrics_max_tenants)
    letters = DeadLetterWatch(gateway.live_requests)
    await bus.client.subscribe(QUEUE_STATUS_WILDCARD, cb=gateway.queue.on_message)
    await bus.client.subscribe(DEAD_LETTERS_WILDCARD, cb=letters.on_message)
    refusals = RefusalWatch(gateway.live_requests, gateway.queue)
    await bus.client.subscribe(REFUSALS, cb=refusals.on_message)
    await gateway.listen()
    serving = process.tasks.create_task(gateway.http.serve(), name="http")
    process.spawn(follow_heartbeats(bus, gateway.live_view), name="heartbeats")
    process.spawn(_set_up_queue(bus, settings, gateway.readiness), name="queue set-up")
    if gateway.ring is not None:
        process.spawn(gateway.ring.follow(stores.access), name="API keys")
    if gateway.certificates is not None:
        process.spawn(gateway.certificates.keep_loaded(), name="certificates")
    process.spawn(gateway.quotas.keep_synchronised(), name="quotas")
    process.spawn(gateway.usage.keep_written(), name="usage")
    process.spawn(gateway.catalog.load_until_known(gateway.tokenizer), name="tokenizer load")
    process.spawn(follow_readiness(gateway.rpc, gateway.readiness), name="readiness")
    await process.stop_requested.wait()
    await gateway.drain()
    await serving
    await gateway.usage.write()
    await gateway.rpc.stop(STOP_GRACE_S)


async def _set_up_queue(bus: Bus, settings: GatewaySettings, readiness: Readiness) -> None:
    while not readiness.has_queue:
        try:
            await bus.ensure_requests_stream(settings.queue_limits())
        except Exception as exc:
            # Whatever the broker's trouble is, it is tried again and readiness says so meanwhile.
            log.warning("queue.not_set_up", error=repr(exc))
            await asyncio.sleep(STREAM_PAUSE_S)
        else:
            readiness.has_queue = True


def main() -> None:
    """Entry point of `python -m gateway.main`."""
    run_process("gateway", GatewaySettings, run)


if __name__ == "__main__":
    main()
