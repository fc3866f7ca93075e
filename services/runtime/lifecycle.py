"""From start to drain: the frame that every process's main stands in."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Generic, NoReturn, TypeVar

import uvloop

from services.core.errors import InvalidRequest
from services.runtime.logs import configure_logs, get_logger
from services.runtime.metrics import serve_metrics
from services.runtime.settings import ProcessSettings, read_settings
from services.runtime.telemetry import start_tracing
from services.runtime.tracing.keeper import TraceKeeper
from services.runtime.tracing.words import follow_trace_words

log = get_logger(__name__)

S = TypeVar("S", bound=ProcessSettings)
T = TypeVar("T")
EXIT_BAD_SETTINGS = 2

MAX_YOUNG_OBJECTS = 10_000
"""Objects that are made, beyond those that go, until the collector looks at them: requests that run
are some thousand objects, and no garbage."""


class Process(Generic[S]):
    """One running process.

    Attributes:
        settings: as read from the environment.
        tasks: the one task group; a task that fails ends the process.
        stack: closed in reverse order after the drain.
        stop_requested: set by SIGTERM or SIGINT; main then drains and returns.
    """

    def __init__(self, name: str, settings: S, tasks: asyncio.TaskGroup) -> None:
        self.name = name
        self.settings = settings
        self.tasks = tasks
        self.stack = AsyncExitStack()
        self.stop_requested = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []

    def spawn(self, work: Awaitable[None], *, name: str) -> None:
        """Runs background work for the life of the process; cancelled when main returns."""

        async def run() -> None:
            await work

        self._background.append(self.tasks.create_task(run(), name=name))

    async def unless_stopped(self, work: Awaitable[T]) -> T | None:
        """The result of work; None if the process is told to stop first."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self.stop_requested.wait())
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            # Ours may be cancelled too: nothing is left running then.
            stopped.cancel()
            task.cancel()
        await asyncio.wait((task,))
        return None

    async def close(self) -> None:
        """Ends background work and closes the stack."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.stack.aclose()


def run_process(
    name: str, settings_type: type[S], main: Callable[[Process[S]], Awaitable[None]]
) -> NoReturn:
    """Runs a process until it is told to stop, and exits: 0 drained, 1 failed, 2 bad settings."""
    try:
        settings = read_settings(settings_type)
    except InvalidRequest as exc:
        sys.stderr.write(f"tokenmill {name}: {exc.message}\n")
        sys.exit(EXIT_BAD_SETTINGS)
    configure_logs(service=name, instance_id=settings.instance_id, level=settings.log_level)
    keeper = start_tracing(
        service=name,
        instance_id=settings.instance_id,
        max_held_spans=settings.traces_max_held_spans,
        slow_s=settings.traces_slow_after_s,
    )
    if settings.metrics_port is not None:
        serve_metrics(settings.host, settings.metrics_port)
    spare_pauses()
    code = 0
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_supervise(name, settings, main, keeper))
    except Exception as exc:
        log.error("process.failed", exc_info=exc)
        code = 1
    finally:
        if keeper is not None:
            keeper.shutdown()
    sys.stdout.flush()
    # Not sys.exit: native threads of gRPC or torch must not keep a drained process alive.
    os._exit(code)


def spare_pauses() -> None:
    """Keeps the garbage collector from walking through all modules while requests wait.

    What stands when a process starts is no garbage later. Looked through again, twice in three
    seconds at a thousand requests/s, it cost a scheduler 40 ms each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(MAX_YOUNG_OBJECTS)


async def _supervise(
    name: str,
    settings: S,
    main: Callable[[Process[S]], Awaitable[None]],
    keeper: TraceKeeper | None,
) -> None:
    async with asyncio.TaskGroup() as tasks:
        process = Process(name, settings, tasks)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.stop_requested.set)
        log.info("process.started", pid=os.getpid())
        if keeper is not None:
            words = follow_trace_words(settings.nats_url, f"{name}-traces", keeper)
            process.spawn(words, name="trace words")
        try:
            await main(process)
        finally:
            await process.close()
        log.info("process.stopped")
