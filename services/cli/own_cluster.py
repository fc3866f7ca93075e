"""A cluster for the time of a measurement, on free ports."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from services.cli.cluster.background import start_detached
from services.cli.cluster.state import ClusterState, running_cluster
from services.cli.terminal import console_report
from services.cli.up import Wanted, down, prepare


@contextlib.contextmanager
def own_cluster(
    *,
    model: str | None = None,
    engine: str = "torch",
    dtype: str | None = None,
    quantization: str | None = None,
    num_workers: int = 1,
) -> Iterator[ClusterState]:
    """Starts a cluster and stops it again; fields as in Wanted.

    Raises:
        CommandFailed: it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="tokenmill-bench-") as own_dir:
        wanted = Wanted(
            state_dir=Path(own_dir),
            model=model,
            engine=engine,
            dtype=dtype,
            quantization=quantization,
            num_workers=num_workers,
            http_port=0,
            grpc_port=0,
        )
        options = prepare(wanted)
        start_detached(options, console_report())
        try:
            yield running_cluster(options.state_dir)
        finally:
            down(options.state_dir)
