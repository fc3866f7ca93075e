"""A cluster of its own whose workers a measurement may stop, kill and bring back."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.cli.cluster.background import start_detached
from services.cli.cluster.options import ClusterOptions
from services.cli.cluster.state import ClusterState, ProcessState, running_cluster
from services.cli.failure import CommandFailed
from services.cli.terminal import console_report
from services.cli.up import Wanted, down, prepare

_RESTART_TIMEOUT_S = 120.0
_POLL_S = 0.1
_NOTICE_S = 3.0
"""A scheduler misses a worker that is silent for 2 s, and finds one that speaks again."""


class OwnFleet:
    """The workers of a cluster."""

    def __init__(self, options: ClusterOptions) -> None:
        self._options = options

    @property
    def state(self) -> ClusterState:
        """Of the cluster, now."""
        return running_cluster(self._options.state_dir)

    def workers(self) -> list[ProcessState]:
        """Its workers, in order."""
        return [process for process in self.state.processes if process.role == "worker"]

    def leave_only(self, name: str) -> None:
        """Halts all workers but one, as if their machines had frozen; that one goes on."""
        for worker in self.workers():
            self._signal(worker, signal.SIGCONT if worker.name == name else signal.SIGSTOP)
        time.sleep(_NOTICE_S)

    def let_all_go_on(self) -> None:
        """Ends every halt."""
        for worker in self.workers():
            self._signal(worker, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """Kills a worker and waits until it is back and ready.

        Raises:
            CommandFailed: it does not come back.
        """
        before = self._worker(name)
        self._signal(before, signal.SIGKILL)
        deadline = time.monotonic() + _RESTART_TIMEOUT_S
        while True:
            time.sleep(_POLL_S)
            now = self._worker(name)
            if now.pid not in (None, before.pid) and now.is_ready:
                break
            if time.monotonic() > deadline:
                raise CommandFailed(f"{name} is not back within {_RESTART_TIMEOUT_S:g} s")
        time.sleep(_NOTICE_S)

    def restart_cluster(self) -> ClusterState:
        """Stops all of it and starts it again on the same state directory; ports may change.

        Raises:
            CommandFailed: it does not come back.
        """
        self.let_all_go_on()
        down(self._options.state_dir)
        start_detached(self._options, console_report())
        return self.state

    def _worker(self, name: str) -> ProcessState:
        return next(worker for worker in self.workers() if worker.name == name)

    @staticmethod
    def _signal(worker: ProcessState, number: signal.Signals) -> None:
        if worker.identity is not None:
            worker.identity.send(number)


@contextlib.contextmanager
def own_fleet(
    *,
    model: str | None,
    engine: str,
    num_workers: int,
    environment: Mapping[str, str],
) -> Iterator[OwnFleet]:
    """Starts a cluster on free ports and stops it again.

    Args:
        model: as `--model` takes it.
        engine: of the workers.
        num_workers: how many.
        environment: settings of its processes.

    Raises:
        CommandFailed: it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="tokenmill-bench-") as own_dir, _set(environment):
        wanted = Wanted(
            state_dir=Path(own_dir),
            model=model,
            engine=engine,
            num_workers=num_workers,
            http_port=0,
            grpc_port=0,
        )
        options = prepare(wanted)
        start_detached(options, console_report())
        fleet = OwnFleet(options)
        try:
            yield fleet
        finally:
            fleet.let_all_go_on()
            down(options.state_dir)


@contextlib.contextmanager
def _set(environment: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
