"""Runs a planned cluster: starts it in waves, keeps it alive, drains it in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from services.cli.cluster.child import Child
from services.cli.cluster.events import ClusterEvent, EventKind, Report
from services.cli.cluster.identity import identify
from services.cli.cluster.plan import START_ORDER, STOP_ORDER, ProcessSpec
from services.cli.cluster.state import ClusterState, forget_state, write_state

START_TIMEOUT_S = 600.0
"""Loading a large model from a slow disk takes minutes; a hang takes for ever."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """All that a supervisor needs.

    Attributes:
        state: as it is written first; processes and phase follow what happens.
        nats_config: text of the broker's configuration file.
    """

    state_dir: Path
    specs: tuple[ProcessSpec, ...]
    state: ClusterState
    nats_config: str


async def run_cluster(
    plan: ClusterPlan, report: Report, serve: Callable[[], Awaitable[None]]
) -> None:
    """Starts all, runs `serve`, drains all.

    The first SIGINT or SIGTERM cancels the start or `serve` and drains; the second kills.

    Args:
        plan: the cluster; its state directory is held by the caller.
        report: hears what happens.
        serve: called when all are ready; the cluster is drained when it returns.

    Raises:
        CommandFailed: a process does not start.
    """
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    supervisor = _Supervisor(plan, report)
    work = asyncio.ensure_future(_start_and_serve(supervisor, serve))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        # From here on a signal means: hurry.
        stop.set()
        work.cancel()
        await asyncio.wait({work})
    finally:
        stopped.cancel()
        await supervisor.drain(hurry)
        for number in signals:
            loop.remove_signal_handler(number)
    if not work.cancelled():
        work.result()


async def _start_and_serve(supervisor: _Supervisor, serve: Callable[[], Awaitable[None]]) -> None:
    await supervisor.start()
    await serve()


class _Supervisor:
    def __init__(self, plan: ClusterPlan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._phase = "starting"
        self._began = time.monotonic()
        logs = plan.state_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._children = [
            Child(spec, _fresh_log(logs, spec.name), report, self._write_state)
            for spec in plan.specs
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        (self._plan.state_dir / "nats.conf").write_text(self._plan.nats_config)
        for wave in START_ORDER:
            children = [child for child in self._children if child.spec.role in wave]
            self._tasks += [
                asyncio.create_task(child.keep(), name=child.spec.name) for child in children
            ]
            # In a group, so that the first that fails ends the wait for the others.
            waits = [asyncio.ensure_future(child.wait_ready(START_TIMEOUT_S)) for child in children]
            try:
                await asyncio.gather(*waits)
            finally:
                for wait in waits:
                    wait.cancel()
        self._enter("ready", EventKind.CLUSTER_READY)

    async def drain(self, hurry: asyncio.Event) -> None:
        self._enter("draining", EventKind.CLUSTER_DRAINING)
        for role in STOP_ORDER:
            children = [child for child in self._children if child.spec.role is role]
            started = {task.get_name() for task in self._tasks}
            await asyncio.gather(
                *(child.stop(hurry) for child in children if child.spec.name in started)
            )
        await asyncio.gather(*self._tasks)
        forget_state(self._plan.state_dir)
        self._report(ClusterEvent(EventKind.CLUSTER_STOPPED))

    def _enter(self, phase: str, kind: EventKind) -> None:
        self._phase = phase
        self._write_state()
        seconds = time.monotonic() - self._began
        self._report(ClusterEvent(kind, seconds=seconds))

    def _write_state(self) -> None:
        write_state(
            self._plan.state_dir,
            replace(
                self._plan.state,
                phase=self._phase,
                supervisor=identify(os.getpid()),
                processes=tuple(child.state for child in self._children),
            ),
        )


def _fresh_log(logs: Path, name: str) -> Path:
    """Each run has its own log; the one before is kept beside it."""
    path = logs / f"{name}.log"
    if path.exists():
        os.replace(path, path.with_suffix(".log.1"))
    return path
