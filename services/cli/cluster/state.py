"""The state file: what runs, for the commands that come later."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.cli.cluster.identity import ProcessIdentity
from services.cli.failure import CommandFailed

STATE_VERSION = 1


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One child.

    Attributes:
        pid: None while it is down.
        num_restarts: how often it died and was started again.
        is_ready: whether it said so since its last start.
    """

    name: str
    role: str
    pid: int | None
    start_ticks: int
    grpc_port: int | None
    http_port: int | None
    http_path: str
    log_path: str
    num_restarts: int = 0
    is_ready: bool = False
    metrics_port: int | None = None

    @property
    def identity(self) -> ProcessIdentity | None:
        """The running process, or None."""
        return None if self.pid is None else ProcessIdentity(self.pid, self.start_ticks)


@dataclass(frozen=True, slots=True)
class ClusterState:
    """One cluster.

    Attributes:
        phase: starting, ready or draining.
        traces_file: the trace store; None if spans are sent elsewhere.
        asks_for_keys: callers need an API key.
        scale_error: why the last wish for more processes came to nothing; empty if it did not.
        engine_environment: settings of the workers' engines, for running one elsewhere.
    """

    phase: str
    supervisor: ProcessIdentity
    model_name: str
    http_url: str
    grpc_target: str
    nats_url: str
    traces_file: str | None
    started_unix_s: float
    drain_timeout_s: float
    state_dir: str
    engine_environment: Mapping[str, str] = field(default_factory=dict[str, str])
    asks_for_keys: bool = False
    processes: tuple[ProcessState, ...] = ()
    scale_error: str = ""

    @property
    def scheme(self) -> str:
        """What its gateways speak: http or https."""
        return self.http_url.partition(":")[0]

    def is_alive(self) -> bool:
        """Whether its supervisor still runs."""
        return self.supervisor.is_alive()


def state_path(state_dir: Path) -> Path:
    """Where the state of the cluster of a directory is kept."""
    return state_dir / "cluster.json"


def write_state(state_dir: Path, state: ClusterState) -> None:
    """Replaces the state in one step: a reader sees the old one or the new one."""
    path = state_path(state_dir)
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps({"version": STATE_VERSION, **asdict(state)}, indent=1))
    os.replace(fresh, path)


def read_state(state_dir: Path) -> ClusterState | None:
    """The state as it was last written, or None; the cluster may be dead since.

    Raises:
        CommandFailed: the file was written by another version or is damaged.
    """
    path = state_path(state_dir)
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return _decode(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CommandFailed(
            f"{path} is no state file of this version; remove it if no cluster runs there"
        ) from exc


def forget_state(state_dir: Path) -> None:
    """Removes the state file. Twice is safe."""
    state_path(state_dir).unlink(missing_ok=True)


def running_cluster(state_dir: Path) -> ClusterState:
    """The cluster that runs now.

    Raises:
        CommandFailed: none does.
    """
    state = read_state(state_dir)
    if state is None or not state.is_alive():
        raise CommandFailed(
            f"no cluster runs here (state directory {state_dir}); start one with: tokenmill up"
        )
    return state


def _decode(raw: dict[str, Any]) -> ClusterState:
    if raw.pop("version") != STATE_VERSION:
        raise ValueError("version")
    raw["supervisor"] = ProcessIdentity(**raw["supervisor"])
    raw["processes"] = tuple(ProcessState(**process) for process in raw["processes"])
    return ClusterState(**raw)
