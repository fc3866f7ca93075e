"""`tokenmill up`, `demo` and `down`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from services.cli.cluster.background import (
    run_here,
    serve_until_signal,
    start_detached,
    stop_cluster,
)
from services.cli.cluster.build import prepare_model, traces_go_elsewhere
from services.cli.cluster.options import (
    DEFAULT_GRPC_PORT,
    DEFAULT_HTTP_PORT,
    LOOPBACK,
    ClusterOptions,
)
from services.cli.cluster.state import ClusterState, forget_state, read_state, running_cluster
from services.cli.failure import CommandFailed
from services.cli.terminal import answer_line, console_report, err, out, write_text

DEMO_QUESTION = "What is the capital of France, and what is it known for?"
DEMO_MAX_TOKENS = 80
EVERY_INTERFACE = "0.0.0.0"
DOWN_MARGIN_S = 60.0
"""Beyond the gateways' own drain: the time that all other processes may take to stop."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cluster, before its model is ready; fields as in ClusterOptions."""

    state_dir: Path
    model: str | None = None
    num_workers: int = 1
    num_gateways: int = 1
    engine: str = "torch"
    dtype: str | None = None
    quantization: str | None = None
    kv_dtype: str | None = None
    itl_target_ms: float | None = None
    speculation: str | None = None
    http_port: int = DEFAULT_HTTP_PORT
    grpc_port: int = DEFAULT_GRPC_PORT
    drain_timeout_s: float = 30.0
    host: str = LOOPBACK
    asks_for_keys: bool = False


def up(wanted: Wanted, *, detach: bool) -> None:
    """Starts a cluster; serves until a signal comes, or returns when it is ready.

    Raises:
        CommandFailed: it cannot be started.
    """
    options = prepare(wanted)
    if detach:
        start_detached(options, console_report())
        _say_where(running_cluster(options.state_dir))
        return

    async def serve() -> None:
        _say_where(running_cluster(options.state_dir))
        err.print("Ctrl-C stops")
        await serve_until_signal()

    run_here(options, console_report(), serve)


def demo(wanted: Wanted, *, once: bool) -> None:
    """Starts a cluster, shows one real answer and its trace, then serves until a signal comes.

    Raises:
        CommandFailed: it cannot be started, or does not answer.
    """
    options = prepare(wanted)

    async def serve() -> None:
        state = running_cluster(options.state_dir)
        await asyncio.to_thread(_show_one_answer, state)
        if once:
            return
        _say_where(state)
        err.print('ask more with: tokenmill ask "..."; Ctrl-C stops')
        await serve_until_signal()

    run_here(options, console_report(), serve)


def down(state_dir: Path) -> None:
    """Drains a cluster and waits for its end.

    Raises:
        CommandFailed: none runs, or it does not end.
    """
    state = read_state(state_dir)
    if state is None or not state.is_alive():
        # Left by a supervisor that was killed; its children died with it.
        forget_state(state_dir)
        raise CommandFailed(f"no cluster runs here (state directory {state_dir})")
    began = time.monotonic()
    timeout_s = state.drain_timeout_s + DOWN_MARGIN_S
    if not stop_cluster(state.supervisor, timeout_s):
        raise CommandFailed(
            f"the cluster still runs after {timeout_s:g} s; its supervisor is process"
            f" {state.supervisor.pid}"
        )
    err.print(f"cluster stopped in {time.monotonic() - began:.1f} s")


def prepare(wanted: Wanted) -> ClusterOptions:
    """Makes the model ready, unless a cluster runs here already.

    Raises:
        CommandFailed: one does, or the model cannot be made ready.
    """
    state = read_state(wanted.state_dir)
    if state is not None and state.is_alive():
        raise CommandFailed(
            f"a cluster runs already at {state.http_url} (process {state.supervisor.pid});"
            " stop it with: tokenmill down, or start another with --state-dir and other ports"
        )
    _check_host(wanted)
    model = prepare_model(wanted.model)
    return ClusterOptions(
        model_name=model.name,
        model_dir=model.directory,
        state_dir=wanted.state_dir,
        num_workers=wanted.num_workers,
        num_gateways=wanted.num_gateways,
        engine=wanted.engine,
        dtype=wanted.dtype,
        quantization=wanted.quantization,
        kv_dtype=wanted.kv_dtype,
        itl_target_ms=wanted.itl_target_ms,
        speculation=wanted.speculation,
        http_port=wanted.http_port,
        grpc_port=wanted.grpc_port,
        drain_timeout_s=wanted.drain_timeout_s,
        host=wanted.host,
        asks_for_keys=wanted.asks_for_keys,
        collect_traces=not traces_go_elsewhere(),
    )


def _check_host(wanted: Wanted) -> None:
    if wanted.host not in (LOOPBACK, EVERY_INTERFACE):
        raise CommandFailed(
            f"--host is {wanted.host!r}; allowed: {LOOPBACK}, or {EVERY_INTERFACE} for every"
            " interface",
            exit_code=2,
        )
    if wanted.host != LOOPBACK and not wanted.asks_for_keys:
        raise CommandFailed(
            f"--host {wanted.host} lets others in, and nobody would be asked for a key: add --auth"
            " and make a key with: tokenmill keys create",
            exit_code=2,
        )


def _say_where(state: ClusterState) -> None:
    for process in state.processes:
        if process.role == "gateway":
            err.print(
                f"{process.name}: {state.scheme}://127.0.0.1:{process.http_port}"
                f"  grpc 127.0.0.1:{process.grpc_port}"
            )
    if state.asks_for_keys:
        err.print("callers need an API key; make one with: tokenmill keys create --name NAME")
    err.print(f"model {state.model_name}; state and logs in {state.state_dir}")


def _show_one_answer(state: ClusterState) -> None:
    from services.cli.chat.client import Question, ask
    from services.cli.traces.asking import Asking
    from services.cli.traces.lookup import find_trace
    from services.cli.traces.render import render_tree

    err.print(f"\n> {DEMO_QUESTION}", style="bold")
    question = Question(
        DEMO_QUESTION, state.model_name, max_tokens=DEMO_MAX_TOKENS, temperature=0.0
    )
    answer = ask(state.http_url, question, write_text)
    out.print()
    if not answer.text.strip():
        raise CommandFailed(f"the answer to {answer.request_id} has no text")
    out.print(answer_line(answer), soft_wrap=True)
    if state.traces_file is not None:
        found = find_trace(
            Path(state.traces_file), answer.request_id, asking=Asking(state.nats_url)
        )
        out.print(render_tree(found.tree))
    out.print()
