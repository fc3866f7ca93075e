"""The trace store process of a local cluster: `python -m services.cli.traces.main`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import uvicorn

from services.cli.traces.asking import Asking
from services.cli.traces.receiver import Receiver
from services.cli.traces.settings import TracesSettings
from services.cli.traces.store import TraceStore
from services.runtime.lifecycle import Process, run_process
from services.runtime.logs import get_logger

log = get_logger(__name__)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(process: Process[TracesSettings]) -> None:
    """Receives spans until told to stop."""
    settings = process.settings
    store = TraceStore(settings.traces_file)
    process.stack.callback(store.close)
    server = _Server(
        uvicorn.Config(
            Receiver(store, settings.traces_file, Asking(settings.nats_url)).app(),
            host=settings.host,
            port=settings.http_port,
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )
    serving = asyncio.ensure_future(server.serve())
    await asyncio.wait(
        {serving, asyncio.ensure_future(process.stop_requested.wait())},
        return_when=asyncio.FIRST_COMPLETED,
    )
    server.should_exit = True
    await serving


if __name__ == "__main__":
    run_process("traces", TracesSettings, serve)
