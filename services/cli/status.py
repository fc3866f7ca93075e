"""`tokenmill status`: what runs, and whether it is well."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from services.cli.cluster.readiness import is_ready
from services.cli.cluster.state import ClusterState, ProcessState


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process, as it answers now."""

    process: ProcessState
    health: str


def read_status(state: ClusterState) -> list[ProcessStatus]:
    """Asks every process of a running cluster."""

    async def ask_all() -> list[ProcessStatus]:
        return list(await asyncio.gather(*(_ask(process) for process in state.processes)))

    return asyncio.run(ask_all())


def status_as_json(state: ClusterState, statuses: list[ProcessStatus]) -> dict[str, Any]:
    """For programs."""
    return {
        "phase": state.phase,
        "supervisor_pid": state.supervisor.pid,
        "model": state.model_name,
        "http_url": state.http_url,
        "grpc_target": state.grpc_target,
        "nats_url": state.nats_url,
        "uptime_s": round(time.time() - state.started_unix_s, 1),
        "processes": [{**asdict(one.process), "health": one.health} for one in statuses],
    }


def status_table(state: ClusterState, statuses: list[ProcessStatus]) -> Table:
    """For people."""
    uptime_s = time.time() - state.started_unix_s
    table = Table(
        title=f"{state.model_name}  {state.http_url}  grpc {state.grpc_target}"
        f"  {state.phase}, up {uptime_s:.0f} s",
        title_justify="left",
        box=None,
    )
    for heading in ("process", "health", "pid", "http", "grpc", "restarts", "log"):
        table.add_column(heading)
    for one in statuses:
        process = one.process
        table.add_row(
            process.name,
            one.health,
            str(process.pid or "-"),
            str(process.http_port or "-"),
            str(process.grpc_port or "-"),
            str(process.num_restarts),
            process.log_path,
        )
    return table


async def _ask(process: ProcessState) -> ProcessStatus:
    identity = process.identity
    if identity is None or not identity.is_alive():
        return ProcessStatus(process, "down")
    ready = await is_ready(process.grpc_port, process.http_port, process.http_path)
    return ProcessStatus(process, "ready" if ready else "not ready")
