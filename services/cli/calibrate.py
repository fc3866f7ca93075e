"""`tokenmill calibrate`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.calibration import CalibrationPlan, calibrate_steps
from benchmarks.children import Child, ChildFailed
from benchmarks.prose import TokenStream
from benchmarks.quiet import alone, in_company
from services.cli.cluster.build import find_programs
from services.cli.cluster.plan import engine_environment
from services.cli.cluster.state import read_state
from services.cli.failure import CommandFailed
from services.cli.terminal import err
from services.cli.up import Wanted, prepare


def calibrate(wanted: Wanted, plan: CalibrationPlan, out: Path | None) -> str:
    """Calibrates the engine of the cluster that runs, else the one that `wanted` would start.

    Returns:
        What was found as JSON, or where it was written to.

    Raises:
        CommandFailed: the engine cannot be run, or the file not be written.
    """
    state = read_state(wanted.state_dir)
    if state is not None and state.is_alive():
        err.print(f"calibrating a worker like those of {state.http_url}, which should be idle")
        environment = state.engine_environment
    else:
        environment = engine_environment(prepare(wanted), find_programs(), os.environ)
    text = json.dumps(calibrate_worker(environment, plan), indent=2)
    if out is None:
        return text
    try:
        out.write_text(text + "\n")
    except OSError as exc:
        raise CommandFailed(f"{out} cannot be written: {exc}") from exc
    return f"written: {out}"


def calibrate_worker(environment: Mapping[str, str], plan: CalibrationPlan) -> dict[str, Any]:
    """Calibrates a worker's engine, run alone with these settings.

    Returns:
        The coefficients, `fit`, and the worker's `shape`.

    Raises:
        CommandFailed: the engine cannot be run.
    """
    stream = TokenStream.of_model(Path(environment["TOKENMILL_MODEL_DIR"]))
    with tempfile.TemporaryDirectory(prefix="tokenmill-bench-") as logs:
        try:
            with in_company():
                engine = Child(
                    "the engine",
                    [sys.executable, "-m", "worker.bench.engine"],
                    environment=environment,
                    log_file=Path(logs) / "engine.log",
                )
            with engine, alone():
                shape: dict[str, int] = engine.ready["shape"]
                return {**calibrate_steps(engine, plan, stream, shape), "shape": shape}
        except ChildFailed as exc:
            raise CommandFailed(f"the engine failed: {exc}") from exc
