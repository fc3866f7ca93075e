"""How many of which process there shall be: asked by a command, carried out by the supervisor."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from services.cli.cluster.plan import Role
from services.cli.cluster.state import ClusterState, running_cluster
from services.cli.failure import CommandFailed

SCALABLE = (Role.WORKER, Role.GATEWAY, Role.SCHEDULER, Role.CACHE)
"""The others are reached at one address that their callers were started with."""

MAX_COUNT = 64
_POLL_S = 0.1
_SIGNAL = signal.SIGUSR1


def parse_counts(wanted: list[str]) -> dict[Role, int]:
    """`worker=3` and the like.

    Raises:
        CommandFailed: not a process that can be scaled, or not a count.
    """
    counts: dict[Role, int] = {}
    for text in wanted:
        name, _, number = text.partition("=")
        if name not in {role.value for role in SCALABLE}:
            allowed = ", ".join(role.value for role in SCALABLE)
            raise CommandFailed(
                f"{name!r} cannot be scaled on a local cluster; allowed: {allowed}", exit_code=2
            )
        if not number.isdecimal() or not 1 <= int(number) <= MAX_COUNT:
            raise CommandFailed(
                f"{text!r} asks for {number or 'no number'}; allowed: {name}=1 to"
                f" {name}={MAX_COUNT}",
                exit_code=2,
            )
        counts[Role(name)] = int(number)
    return counts


def request_path(state_dir: Path) -> Path:
    """Where a command leaves what it wants."""
    return state_dir / "scale.json"


def read_request(state_dir: Path) -> dict[Role, int]:
    """What was asked for last; empty if nothing, or nothing readable."""
    try:
        raw = json.loads(request_path(state_dir).read_text())
        return {Role(name): int(count) for name, count in raw.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def ask_to_scale(
    state_dir: Path, counts: Mapping[Role, int], *, timeout_s: float, say: Callable[[str], None]
) -> ClusterState:
    """Asks the supervisor of a running cluster, and waits until it is done.

    Args:
        state_dir: of the cluster.
        counts: of each process that shall change.
        timeout_s: for all of it; starting a worker loads its model, stopping one drains it.
        say: hears what is waited for.

    Raises:
        CommandFailed: no cluster runs, it cannot be done, or not in time.
    """
    state = running_cluster(state_dir)
    if state.phase != "ready":
        raise CommandFailed(f"the cluster is {state.phase}; it can be scaled when it is ready")
    path = request_path(state_dir)
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps({role.value: count for role, count in counts.items()}))
    os.replace(fresh, path)
    state.supervisor.send(_SIGNAL)
    for role, count in counts.items():
        say(f"{role.value}: {num_of(state, role)} -> {count}")
    deadline = time.monotonic() + timeout_s
    while not is_done(state, counts):
        if time.monotonic() > deadline:
            raise CommandFailed(f"the cluster was not scaled within {timeout_s:g} s")
        time.sleep(_POLL_S)
        before, state = state, running_cluster(state_dir)
        if state.scale_error and state.scale_error != before.scale_error:
            raise CommandFailed(state.scale_error)
    return state


def num_of(state: ClusterState, role: Role) -> int:
    """Processes of a role."""
    return sum(process.role == role.value for process in state.processes)


def is_done(state: ClusterState, counts: Mapping[Role, int]) -> bool:
    """Whether the cluster is as it was asked to be, and all of it ready."""
    return all(
        num_of(state, role) == count
        and all(process.is_ready for process in state.processes if process.role == role.value)
        for role, count in counts.items()
    )
