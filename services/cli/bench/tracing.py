"""`tokenmill bench tracing`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from multiprocessing import get_context
from typing import Any

from benchmarks.tracing import Half, Side, TracingPlan, compare_tracing, sum_up
from services.cli.cluster.build import traces_go_elsewhere
from services.cli.cluster.plan import LOW_PRIORITY
from services.cli.cluster.state import ClusterState
from services.cli.failure import CommandFailed
from services.cli.own_cluster import own_cluster

_OFF = "OTEL_SDK_DISABLED"


def tracing(plan: TracingPlan, *, model: str | None, engine: str) -> dict[str, Any]:
    """Compares clusters that trace as by default with some that do not; each is once the older.

    Raises:
        CommandFailed: a cluster cannot be started, or the shell sends traces elsewhere.
    """
    if traces_go_elsewhere():
        raise CommandFailed("traces go elsewhere, or nowhere: unset the OTEL_ variables")
    halves: list[Half] = []
    for order in (("on", "off"), ("off", "on")):
        with ExitStack() as stack:
            states = {
                name: stack.enter_context(_cluster(name, model=model, engine=engine))
                for name in order
            }
            on, off = states["on"], states["off"]
            # Whoever asks must not take a worker's time.
            with ProcessPoolExecutor(1, get_context("spawn"), os.nice, (LOW_PRIORITY,)) as pool:
                sides = _side(on), _side(off)
                halves.append(pool.submit(compare_tracing, *sides, on.model_name, plan).result())
    return {
        "engine": engine,
        "model": on.model_name,
        "num_cpus": os.cpu_count(),
        **sum_up(halves),
    }


@contextmanager
def _cluster(side: str, *, model: str | None, engine: str) -> Iterator[ClusterState]:
    with _untraced() if side == "off" else nullcontext():
        started = own_cluster(model=model, engine=engine)
        state = started.__enter__()
    try:
        yield state
    finally:
        started.__exit__(None, None, None)


def _side(state: ClusterState) -> Side:
    return Side(state.http_url, [one.pid for one in state.processes if one.pid is not None])


@contextmanager
def _untraced() -> Iterator[None]:
    os.environ[_OFF] = "true"
    try:
        yield
    finally:
        del os.environ[_OFF]
