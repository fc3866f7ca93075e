"""One process of the cluster: started, watched, started again, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from services.cli.cluster.backoff import Backoff
from services.cli.cluster.events import ClusterEvent, EventKind, Report
from services.cli.cluster.identity import ProcessIdentity, identify
from services.cli.cluster.plan import ProcessSpec
from services.cli.cluster.readiness import is_ready, is_ready_over_tls
from services.cli.cluster.state import ProcessState
from services.cli.failure import CommandFailed

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_S = 0.1
_EXIT_BAD_SETTINGS = 2
_MAX_DEATHS_BEFORE_READY = 3
_LOG_TAIL_BYTES = 2_000


class Child:
    """Keeps one process alive until stop; `keep` is its only task."""

    def __init__(
        self, spec: ProcessSpec, log_path: Path, report: Report, on_change: Callable[[], None]
    ) -> None:
        self.spec = spec
        self._log_path = log_path
        self._report = report
        self._on_change = on_change
        self._backoff = Backoff()
        self._identity: ProcessIdentity | None = None
        self._is_ready = False
        self._num_restarts = 0
        self._first_started = time.monotonic()
        self._stop_requested = asyncio.Event()
        self._gone = asyncio.Event()
        self._first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def state(self) -> ProcessState:
        """As it goes into the state file."""
        return ProcessState(
            name=self.spec.name,
            role=self.spec.role.value,
            pid=self._identity.pid if self._identity else None,
            start_ticks=self._identity.start_ticks if self._identity else 0,
            grpc_port=self.spec.grpc_port,
            http_port=self.spec.http_port,
            http_path=self.spec.http_path,
            log_path=str(self._log_path),
            num_restarts=self._num_restarts,
            is_ready=self._is_ready,
            metrics_port=self.spec.metrics_port,
        )

    async def keep(self) -> None:
        """Runs the process, again after every death, until stop."""
        self._first_started = time.monotonic()
        try:
            while not self._stop_requested.is_set():
                started = time.monotonic()
                code = await self._run_once()
                if self._stop_requested.is_set():
                    break
                delay_s = self._backoff.next_delay_s(ran_for_s=time.monotonic() - started)
                if self._gives_up(code):
                    break
                self._say(EventKind.PROCESS_DIED, seconds=delay_s, detail=_describe_exit(code))
                self._num_restarts += 1
                self._on_change()
                await self._pause(delay_s)
        finally:
            self._fail_start("it was stopped before it was ready")
            self._gone.set()

    async def wait_ready(self, timeout_s: float) -> None:
        """Returns when it was ready for the first time.

        Raises:
            CommandFailed: it does not start, or not in time.
        """
        try:
            await asyncio.wait_for(asyncio.shield(self._first_ready), timeout_s)
        except TimeoutError as exc:
            raise CommandFailed(
                f"{self.spec.name} was not ready within {timeout_s:g} s;"
                f" its log: {self._log_path}{self._last_words()}"
            ) from exc

    async def stop(self, hurry: asyncio.Event) -> None:
        """SIGTERM, and SIGKILL after the grace time or when hurry is set. Twice is safe."""
        self._stop_requested.set()
        began = time.monotonic()
        if self._identity is not None:
            self._identity.send(signal.SIGTERM)
        gone = asyncio.ensure_future(self._gone.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait(
                {gone, hurried},
                timeout=self.spec.grace_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not gone.done() and self._identity is not None:
                self._identity.send(signal.SIGKILL)
                self._say(EventKind.PROCESS_KILLED, seconds=time.monotonic() - began)
                await gone
            else:
                self._say(EventKind.PROCESS_STOPPED, seconds=time.monotonic() - began)
        finally:
            gone.cancel()
            hurried.cancel()

    async def _run_once(self) -> int:
        with self._log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(self.spec.nice),
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.environment},
                # Ctrl-C in the terminal is for the supervisor, which stops children in order. A
                # group and no session: Linux shares the CPU out by session first, and nice
                # counts only among the processes of one (sched_autogroup).
                process_group=0,
            )  # fmt: skip
        self._identity = identify(process.pid)
        self._on_change()
        if self._stop_requested.is_set():
            # Asked to stop while it was being started: nobody has told it yet.
            self._identity.send(signal.SIGTERM)
        watch = asyncio.ensure_future(self._watch_until_ready())
        try:
            return await process.wait()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            self._identity = None
            self._is_ready = False

    async def _watch_until_ready(self) -> None:
        spec = self.spec
        began = self._first_started if not self._first_ready.done() else time.monotonic()
        # Polled: a port that opens in another process is no event that this one could wait for.
        while not await _is_ready(spec):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        self._is_ready = True
        self._on_change()
        self._say(EventKind.PROCESS_READY, seconds=time.monotonic() - began, detail=self._ports())
        if not self._first_ready.done():
            self._first_ready.set_result(None)

    def _gives_up(self, code: int) -> bool:
        """Before it was ever ready, a child that cannot start is the user's to mend."""
        if self._first_ready.done():
            return False
        if code != _EXIT_BAD_SETTINGS and self._num_restarts + 1 < _MAX_DEATHS_BEFORE_READY:
            return False
        self._fail_start(_describe_exit(code))
        return True

    def _fail_start(self, why: str) -> None:
        if self._first_ready.done():
            return
        self._first_ready.set_exception(
            CommandFailed(
                f"{self.spec.name} does not start ({why});"
                f" its log: {self._log_path}{self._last_words()}"
            )
        )
        # Retrieved here once, so that a start that nobody awaits any more does not warn about it.
        self._first_ready.exception()

    async def _pause(self, delay_s: float) -> None:
        try:
            await asyncio.wait_for(self._stop_requested.wait(), delay_s)
        except TimeoutError:
            return

    def _say(self, kind: EventKind, *, seconds: float, detail: str = "") -> None:
        self._report(ClusterEvent(kind, self.spec.name, seconds, detail))

    def _ports(self) -> str:
        parts = []
        if self.spec.http_port is not None:
            parts.append(f"http {self.spec.http_port}")
        if self.spec.grpc_port is not None:
            parts.append(f"grpc {self.spec.grpc_port}")
        return ", ".join(parts)

    def _last_words(self) -> str:
        try:
            with self._log_path.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"\n  last line: {last[-500:]}" if last else ""


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


async def _is_ready(spec: ProcessSpec) -> bool:
    if spec.has_tls and spec.http_port is not None:
        return await is_ready_over_tls(spec.http_port, spec.http_path)
    return await is_ready(spec.grpc_port, spec.http_port, spec.http_path)
