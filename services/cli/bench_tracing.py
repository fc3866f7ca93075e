"""`tokenmill bench tracing`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.tracing import Side, TracingPlan, compare_tracing
from services.cli.cluster.plan import LOW_PRIORITY
from services.cli.cluster.state import ClusterState
from services.cli.failure import CommandFailed
from services.cli.own_cluster import own_cluster

_OFF = "OTEL_SDK_DISABLED"


def tracing(plan: TracingPlan, *, model: str | None, engine: str) -> dict[str, Any]:
    """Starts two clusters, one that traces as by default and one that does not, and asks in turn.

    Raises:
        CommandFailed: a cluster cannot be started, or the shell sends traces elsewhere.
    """
    with own_cluster(model=model, engine=engine) as on:
        if on.traces_file is None:
            raise CommandFailed("traces go elsewhere, or nowhere: unset the OTEL_ variables")
        with _untraced(), own_cluster(model=model, engine=engine) as off:
            os.nice(LOW_PRIORITY)
            return {
                "engine": engine,
                "model": on.model_name,
                "num_cpus": os.cpu_count(),
                **compare_tracing(_side(on), _side(off), on.model_name, plan),
            }


def _side(state: ClusterState) -> Side:
    return Side(state.http_url, [one.pid for one in state.processes if one.pid is not None])


@contextmanager
def _untraced() -> Iterator[None]:
    os.environ[_OFF] = "true"
    try:
        yield
    finally:
        del os.environ[_OFF]
