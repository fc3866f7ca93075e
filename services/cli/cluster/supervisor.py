"""Runs a planned cluster: starts it in waves, keeps it alive, drains it in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from services.cli.cluster.cache_shards import write_shards
from services.cli.cluster.child import Child
from services.cli.cluster.events import ClusterEvent, EventKind, Report
from services.cli.cluster.identity import identify
from services.cli.cluster.options import LOOPBACK
from services.cli.cluster.plan import START_ORDER, STOP_ORDER, ProcessSpec, Role
from services.cli.cluster.scale import read_request
from services.cli.cluster.scrape_targets import forget_targets, write_targets
from services.cli.cluster.state import ClusterState, forget_state, write_state
from services.cli.failure import CommandFailed

START_TIMEOUT_S = 600.0
"""Loading a large model from a slow disk takes minutes; a hang takes for ever."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """All that a supervisor needs.

    Attributes:
        state: as it is written first; processes and phase follow what happens.
        nats_config: text of the broker's configuration file.
        further: plans the nth process of a role, when there shall be more.
    """

    state_dir: Path
    specs: tuple[ProcessSpec, ...]
    state: ClusterState
    nats_config: str
    further: Callable[[Role, int], ProcessSpec]


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
    supervisor = _Supervisor(plan, report, hurry)
    loop.add_signal_handler(signal.SIGUSR1, supervisor.scale_soon)
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
        for number in (*signals, signal.SIGUSR1):
            loop.remove_signal_handler(number)
    if not work.cancelled():
        work.result()


async def _start_and_serve(supervisor: _Supervisor, serve: Callable[[], Awaitable[None]]) -> None:
    await supervisor.start()
    await serve()


class _Supervisor:
    def __init__(self, plan: ClusterPlan, report: Report, hurry: asyncio.Event) -> None:
        self._plan = plan
        self._report = report
        self._hurry = hurry
        self._scaling: asyncio.Task[None] | None = None
        self._scale_error = ""
        self._phase = "starting"
        self._began = time.monotonic()
        logs = plan.state_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._children = [self._new_child(spec) for spec in plan.specs]
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

    def scale_soon(self) -> None:
        """Carries out the last wish; one that comes meanwhile is carried out after it."""
        before = self._scaling

        async def scale() -> None:
            if before is not None:
                await asyncio.wait({before})
            await self._scale()

        self._scaling = asyncio.create_task(scale(), name="scale")

    async def _scale(self) -> None:
        if self._phase != "ready":
            return
        self._scale_error = ""
        try:
            for role, count in read_request(self._plan.state_dir).items():
                children = [child for child in self._children if child.spec.role is role]
                for number in range(len(children) + 1, count + 1):
                    await self._add(role, number)
                for child in reversed(children[count:]):
                    await self._remove(child)
        except CommandFailed as exc:
            self._scale_error = exc.message
        self._write_state()

    async def _add(self, role: Role, number: int) -> None:
        child = self._new_child(self._plan.further(role, number))
        keeping = asyncio.create_task(child.keep(), name=child.spec.name)
        self._children.append(child)
        self._tasks.append(keeping)
        try:
            await child.wait_ready(START_TIMEOUT_S)
        except CommandFailed:
            await self._remove(child)
            raise

    async def _remove(self, child: Child) -> None:
        await child.stop(self._hurry)
        self._children.remove(child)
        self._write_state()

    def _new_child(self, spec: ProcessSpec) -> Child:
        log_path = _fresh_log(self._logs, spec.name)
        return Child(spec, log_path, self._report, self._write_state)

    async def drain(self, hurry: asyncio.Event) -> None:
        if self._scaling is not None:
            self._scaling.cancel()
            await asyncio.wait({self._scaling})
        self._enter("draining", EventKind.CLUSTER_DRAINING)
        for role in STOP_ORDER:
            children = [child for child in self._children if child.spec.role is role]
            started = {task.get_name() for task in self._tasks}
            await asyncio.gather(
                *(child.stop(hurry) for child in children if child.spec.name in started)
            )
        await asyncio.gather(*self._tasks)
        forget_state(self._plan.state_dir)
        forget_targets(self._plan.state_dir)
        self._report(ClusterEvent(EventKind.CLUSTER_STOPPED))

    def _enter(self, phase: str, kind: EventKind) -> None:
        self._phase = phase
        self._write_state()
        seconds = time.monotonic() - self._began
        self._report(ClusterEvent(kind, seconds=seconds))

    def _write_state(self) -> None:
        state = replace(
            self._plan.state,
            phase=self._phase,
            scale_error=self._scale_error,
            supervisor=identify(os.getpid()),
            processes=tuple(child.state for child in self._children),
        )
        write_state(self._plan.state_dir, state)
        write_targets(self._plan.state_dir, state)
        specs = (child.spec for child in self._children if child.spec.role is Role.CACHE)
        write_shards(
            self._plan.state_dir, {spec.name: f"{LOOPBACK}:{spec.grpc_port}" for spec in specs}
        )


def _fresh_log(logs: Path, name: str) -> Path:
    """Each run has its own log; the one before is kept beside it."""
    path = logs / f"{name}.log"
    if path.exists():
        os.replace(path, path.with_suffix(".log.1"))
    return path
