"""The worker process: `python -m worker.main`."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from prometheus_client import REGISTRY
from tokenmill.v1.worker_pb2_grpc import add_WorkerServiceServicer_to_server

from services.core.block_names import BlockNames, BlockNaming
from services.core.kv_events import KvState
from services.core.load import WorkerState
from services.runtime.addresses import own_address
from services.runtime.allocator import keep_freed_memory
from services.runtime.bounded_label import TENANT_LABEL
from services.runtime.bus import Bus, connect_bus
from services.runtime.lifecycle import Process, run_process
from services.runtime.logs import get_logger
from services.runtime.naming_watch import NamingWatch, naming_bucket
from services.runtime.rpc_server import RpcServer
from worker.cache.fetch import CacheFetcher, FetchTimeouts, NoFetcher
from worker.cache.offer import CacheOffers, NoOffers
from worker.cache.shards import CacheShards
from worker.delivery.attempt_runner import AttemptRunner
from worker.delivery.attempts import AttemptTable
from worker.delivery.circuit_breaker import CircuitBreaker
from worker.delivery.gateway_streams import GatewayStreams
from worker.delivery.job import AdmissionRules, Job
from worker.delivery.step_router import StepRouter
from worker.engine.factory import build_engine
from worker.engine.port import Engine
from worker.engine_bridge import EngineBridge, StepNews
from worker.fake_engine_settings import fake_model_from
from worker.reports.gpu_meter import open_gpu_meter
from worker.reports.heartbeat import Heart, WorkerFacts, WorkerIdentity, worker_state
from worker.reports.kv_events import KvEventLog
from worker.reports.kv_publisher import KvPublisher
from worker.reports.load_signal import LoadSignal
from worker.reports.metrics import WorkerMetrics
from worker.reports.state_collector import StateCollector, ToldLoad
from worker.reports.step_meter import StepMeter
from worker.reports.tenant_outputs import TenantOutputs
from worker.servicer import WorkerServicer
from worker.settings import WorkerSettings
from worker.threads import in_daemon_thread

log = get_logger(__name__)

T = TypeVar("T")

FLUSH_TIMEOUT_S = 2.0
ENGINE_STOP_TIMEOUT_S = 5.0
NAMING_TIMEOUT_S = 5.0
"""How long a worker waits for the cluster's secret; without it it finds nobody's blocks yet."""


async def main(process: Process[WorkerSettings]) -> None:
    """Loads the engine, serves until told to stop, drains."""
    settings = process.settings
    TENANT_LABEL.max_values = settings.metrics_max_tenants
    server, servicer = RpcServer(), WorkerServicer()
    server.add(add_WorkerServiceServicer_to_server, servicer, "tokenmill.v1.WorkerService")
    port = await server.start(settings.host, settings.grpc_port)
    process.stack.push_async_callback(server.stop, 1.0)
    address = settings.advertise_address or own_address(
        settings.host, port, broker_url=settings.nats_url
    )
    log.info("worker.listening", worker_id=settings.worker_id, address=address)

    engine = await process.unless_stopped(load_engine(settings))
    if engine is None:
        return
    bus = await process.unless_stopped(_enter_bus(process))
    if bus is None:
        return
    await _serve(process, engine, bus, server, servicer, address)


async def load_engine(settings: WorkerSettings) -> Engine:
    """Builds the engine off the event loop, so that health answers meanwhile."""
    started = time.perf_counter()
    fake_model = fake_model_from(settings) if settings.engine == "fake" else None
    engine = await in_daemon_thread(
        lambda: build_engine(
            settings.engine, settings.model_dir, settings.engine_settings(), fake_model
        ),
        name="load-engine",
    )
    log.info(
        "engine.loaded",
        engine=settings.engine,
        model=settings.model_name,
        layout=engine.layout.text(),
        num_blocks=engine.load().num_blocks,
        duration_s=round(time.perf_counter() - started, 3),
    )
    return engine


async def _serve(
    process: Process[WorkerSettings],
    engine: Engine,
    bus: Bus,
    server: RpcServer,
    servicer: WorkerServicer,
    address: str,
) -> None:
    settings = process.settings
    await _name_blocks(process, engine, bus)
    fetcher, offers = await _cache(process, engine)
    kv_log = KvEventLog(settings.worker_id, epoch=time.time_ns() // 1_000_000)
    engine.watch_blocks(kv_log)
    kv_publisher = KvPublisher(kv_log, bus, model=settings.model_name, worker_id=settings.worker_id)
    meter = StepMeter(settings.engine_settings().max_batched_tokens)
    outputs = TenantOutputs()
    table: AttemptTable[Job] = AttemptTable()
    load_signal = LoadSignal()
    streams = GatewayStreams(
        worker_id=settings.worker_id,
        max_queued_tokens=settings.deliver_queue_tokens,
        idle_s=settings.deliver_idle_s,
    )
    runner = AttemptRunner(
        engine,
        table,
        streams,
        fetcher,
        AdmissionRules(model_name=settings.model_name, max_requests=settings.max_requests),
        load_signal,
        worker_id=settings.worker_id,
        attach_timeout_s=settings.attach_timeout_s,
    )
    metrics = WorkerMetrics(
        settings.model_name,
        settings.worker_id,
        block_size=engine.load().block_size,
        step_time=meter.model,
    )
    router = StepRouter(
        table, offers, runner.finished, outputs, metrics, trace_steps=settings.trace_steps
    )
    told = ToldLoad(runner.load)
    REGISTRY.register(
        StateCollector(
            settings.model_name,
            settings.worker_id,
            load=told.last,
            num_offers_dropped=lambda: offers.num_dropped,
            gpus=open_gpu_meter(),
        )
    )

    def state() -> WorkerState:
        return worker_state(
            is_draining=runner.is_draining,
            seconds_since_progress=engine.seconds_since_progress(),
            stall_after_s=settings.stall_after_s,
        )

    async def state_changed(state: WorkerState) -> None:
        await server.set_ready(state is WorkerState.READY)

    def facts() -> WorkerFacts:
        return WorkerFacts(
            kv=KvState(engine.model_revision, engine.layout.text(), kv_log.epoch, kv_log.event_idx),
            step_time=meter.model(),
            cache_block_s=fetcher.block_s,
            itl_target_s=settings.itl_target_ms / 1000,
            outputs=outputs.latest(),
        )

    def on_news(news: StepNews) -> None:
        router.on_news(news)
        meter.on_step(news.report)
        kv_publisher.poke()

    heart = Heart(
        WorkerIdentity(settings.worker_id, address, settings.model_name),
        bus,
        load_signal,
        load=told.now,
        facts=facts,
        state=state,
        state_changed=state_changed,
        interval_s=settings.heartbeat_interval_s,
    )
    engine.start(EngineBridge(asyncio.get_running_loop(), on_news, offers.has_room))
    process.stack.push_async_callback(_stop_engine, engine)
    servicer.kv_log, servicer.runner = kv_log, runner
    process.spawn(kv_publisher.run(), name="kv-events")
    process.spawn(heart.run(), name="heartbeat")
    process.spawn(streams.close_idle(), name="close-idle-streams")

    await process.stop_requested.wait()
    runner.refuse_more()
    await heart.beat()
    await runner.drain(settings.drain_timeout_s)
    await streams.close(flush_timeout_s=FLUSH_TIMEOUT_S)
    if isinstance(offers, CacheOffers):
        await offers.flush(FLUSH_TIMEOUT_S)


async def _name_blocks(process: Process[WorkerSettings], engine: Engine, bus: Bus) -> None:
    """Names blocks as the cluster does, from now on and whenever that changes."""

    def changed(naming: BlockNaming) -> None:
        layout = engine.layout
        engine.names = BlockNames(engine.model_revision, layout.text(), layout.block_size, naming)

    settings = process.settings
    bucket = naming_bucket(bus, settings.queue_num_replicas)
    watch = NamingWatch(bucket, settings.model_name, changed)
    process.spawn(watch.follow(), name="block-naming")
    await watch.known(NAMING_TIMEOUT_S)


async def _cache(
    process: Process[WorkerSettings], engine: Engine
) -> tuple[CacheFetcher | NoFetcher, CacheOffers | NoOffers]:
    settings = process.settings
    if not settings.cache_target or not settings.prefix_cache:
        return NoFetcher(), NoOffers()
    keep_freed_memory()
    client = CacheShards(settings.cache_target, settings.cache_transport)
    process.stack.push_async_callback(client.close)
    await client.refresh()
    process.spawn(client.follow(), name="cache-shards")
    timeouts = FetchTimeouts(
        lookup_s=settings.cache_lookup_timeout_s,
        get_s=settings.cache_get_timeout_s,
        per_block_s=settings.cache_timeout_per_block_s,
    )
    offers = CacheOffers(
        client,
        # Apart from the fetches': a service that takes no more may still give.
        CircuitBreaker(),
        max_bytes=settings.cache_offer_queue_bytes,
        lookup_timeout_s=settings.cache_put_timeout_s,
        put_timeout_s=settings.cache_put_timeout_s,
    )
    process.spawn(offers.run(), name="cache-offers")
    return CacheFetcher(engine, client, CircuitBreaker(), timeouts), offers


async def _enter_bus(process: Process[WorkerSettings]) -> Bus:
    settings = process.settings
    return await process.stack.enter_async_context(
        connect_bus(settings.nats_url, name=settings.worker_id)
    )


async def _stop_engine(engine: Engine) -> None:
    try:
        async with asyncio.timeout(ENGINE_STOP_TIMEOUT_S):
            await in_daemon_thread(engine.stop, name="stop-engine")
    except TimeoutError:
        log.warning("engine.stop_abandoned")


if __name__ == "__main__":
    run_process("worker", WorkerSettings, main)
