"""Starts the scheduler."""

from __future__ import annotations

import asyncio

from services.runtime.bus import Bus, connect_bus
from services.runtime.lifecycle import Process, run_process
from services.runtime.logs import get_logger
from services.runtime.rpc_server import RpcServer
from services.scheduler.scheduler import Scheduler
from services.scheduler.settings import SchedulerSettings

log = get_logger(__name__)

READY_CHECK_S = 0.1


async def main(process: Process[SchedulerSettings]) -> None:
    """Schedules until told to stop, then gives back what waits and lets submissions finish."""
    settings = process.settings
    server = RpcServer()
    port = await server.start(settings.host, settings.grpc_port)
    log.info("rpc.listening", port=port, model=settings.model_name)
    bus = await _connect(process)
    if bus is not None:
        async with Scheduler(bus, settings, process.tasks) as scheduler:
            process.spawn(_report_ready(server, scheduler), name="ready")
            await process.stop_requested.wait()
            await server.set_ready(False)
            await scheduler.drain(settings.drain_timeout_s)
    await server.stop(grace_s=0)


async def _connect(process: Process[SchedulerSettings]) -> Bus | None:
    """The bus, or None if the process is told to stop before there is a broker."""
    bus = connect_bus(process.settings.nats_url, name=f"scheduler-{process.settings.instance_id}")
    connecting = asyncio.create_task(process.stack.enter_async_context(bus))
    stopping = asyncio.create_task(process.stop_requested.wait())
    try:
        await asyncio.wait((connecting, stopping), return_when=asyncio.FIRST_COMPLETED)
        return connecting.result() if connecting.done() else None
    finally:
        for task in (connecting, stopping):
            task.cancel()
        await asyncio.gather(connecting, stopping, return_exceptions=True)


async def _report_ready(server: RpcServer, scheduler: Scheduler) -> None:
    was_ready = False
    while True:
        if scheduler.is_ready != was_ready:
            was_ready = scheduler.is_ready
            await server.set_ready(was_ready)
            log.info("scheduler.ready" if was_ready else "scheduler.unready")
        await asyncio.sleep(READY_CHECK_S)


if __name__ == "__main__":
    run_process("scheduler", SchedulerSettings, main)
