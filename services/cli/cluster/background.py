"""A cluster without a terminal: `up --detach`, seen from both of its processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.cli.cluster.build import build_plan
from services.cli.cluster.events import (
    ClusterEvent,
    EventKind,
    Report,
    decode_event,
    encode_event,
)
from services.cli.cluster.identity import ProcessIdentity
from services.cli.cluster.lock import hold_state_dir
from services.cli.cluster.options import ClusterOptions
from services.cli.cluster.supervisor import run_cluster
from services.cli.failure import CommandFailed

_STDOUT = 1
_POLL_S = 0.05


def run_here(options: ClusterOptions, report: Report, serve: Callable[[], Awaitable[None]]) -> None:
    """Runs a cluster in this process until `serve` returns or a signal comes.

    Raises:
        CommandFailed: it cannot be started.
    """
    with hold_state_dir(options.state_dir):
        asyncio.run(run_cluster(build_plan(options), report, serve))


async def serve_until_signal() -> None:
    """Serves until run_cluster cancels it."""
    await asyncio.Event().wait()


def start_detached(options: ClusterOptions, report: Report) -> None:
    """Starts a supervisor in the background and returns when its cluster is ready.

    Raises:
        CommandFailed: it did not become ready.
    """
    options.state_dir.mkdir(parents=True, exist_ok=True)
    log_path = options.state_dir / "supervisor.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli.cluster.background", _encode(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        _follow(process, report, log_path)
    except BaseException:
        process.terminate()
        process.wait()
        raise


def stop_cluster(supervisor: ProcessIdentity, timeout_s: float) -> bool:
    """Asks a supervisor to drain and waits until it is gone; False if it is not in time."""
    supervisor.send(signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while supervisor.is_alive():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _follow(process: subprocess.Popen[bytes], report: Report, log_path: Path) -> None:
    assert process.stdout is not None
    failure = ""
    with process.stdout as events:
        for line in events:
            event = decode_event(line.decode(errors="replace"))
            if event is None:
                continue
            report(event)
            if event.kind is EventKind.CLUSTER_FAILED:
                failure = event.detail
            elif event.kind is EventKind.CLUSTER_READY:
                # It is on its own now: neither awaited nor killed when this command ends.
                process.returncode = 0
                return
    code = process.wait()
    raise CommandFailed(
        failure
        or f"the supervisor ended ({code}) before its cluster was ready; its log: {log_path}"
    )


def _main(encoded: str) -> int:
    options = _decode(encoded)
    is_followed = True

    def report(event: ClusterEvent) -> None:
        nonlocal is_followed
        line = encode_event(event) + "\n"
        sys.stderr.write(line)
        sys.stderr.flush()
        if not is_followed:
            return
        try:
            os.write(_STDOUT, line.encode())
        except BrokenPipeError:
            is_followed = False
        if event.kind is EventKind.CLUSTER_READY:
            is_followed = False
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, _STDOUT)
            os.close(null)

    try:
        run_here(options, report, serve_until_signal)
    except CommandFailed as exc:
        report(ClusterEvent(EventKind.CLUSTER_FAILED, detail=exc.message))
        return exc.exit_code
    return 0


def _encode(options: ClusterOptions) -> str:
    return json.dumps(asdict(options) | {"state_dir": str(options.state_dir)})


def _decode(encoded: str) -> ClusterOptions:
    raw: dict[str, Any] = json.loads(encoded)
    state_dir = Path(raw.pop("state_dir"))
    return ClusterOptions(state_dir=state_dir, **raw)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
