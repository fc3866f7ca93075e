"""`tokenmill bench engine`."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.children import Child, ChildFailed
from benchmarks.engine import BYTES_PER_WEIGHT, EnginePlan, measure_engine
from benchmarks.prose import TokenStream
from benchmarks.quiet import in_company
from benchmarks.weights import count_weights
from services.cli.cluster.build import prepare_model
from services.cli.cluster.plan import GOMP_SPIN_COUNT
from services.cli.failure import CommandFailed
from services.cli.terminal import err

QUANTIZED = ("int8", "int4")


def engine(
    plan: EnginePlan, *, model: str | None, precisions: Sequence[str], keep_going: bool = True
) -> dict[str, Any]:
    """Measures the bare engine in each precision.

    Args:
        plan: how much.
        model: as `--model` takes it; None: the default model.
        precisions: of BYTES_PER_WEIGHT.
        keep_going: leave out a precision that this build lacks; it is said under `skipped`.

    Raises:
        CommandFailed: a precision is unknown, or the engine fails.
    """
    for name in precisions:
        if name not in BYTES_PER_WEIGHT:
            allowed = ", ".join(BYTES_PER_WEIGHT)
            raise CommandFailed(f"precision is {name!r}; allowed: {allowed}", exit_code=2)
    model_dir = Path(prepare_model(model).directory)
    stream = TokenStream.of_model(model_dir)
    skipped: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="tokenmill-bench-") as logs,
        contextlib.ExitStack() as stack,
    ):
        children: dict[str, Child] = {}
        for name in precisions:
            try:
                child = start_engine(name, model_dir, Path(logs))
            except ChildFailed as exc:
                if not keep_going:
                    raise CommandFailed(f"the engine in {name} failed: {exc.why}") from exc
                skipped[name] = exc.why
                err.print(f"{name} is left out: {exc.why}")
                continue
            children[name] = stack.enter_context(child)
            err.print(f"{name} loaded in {child.ready['load_s']:.1f} s")
        if not children:
            raise CommandFailed("no engine could be loaded: " + "; ".join(skipped.values()))
        try:
            result = measure_engine(
                children, plan, stream, count_weights(model_dir), lambda text: err.print(text)
            )
        except ChildFailed as exc:
            raise CommandFailed(f"the engine failed: {exc}") from exc
    for name, child in children.items():
        result[name]["load_s"] = child.ready["load_s"]
    return {**result, "skipped": skipped, "model": model_dir.name, "num_cpus": os.cpu_count()}


def start_engine(
    precision: str, model_dir: Path, log_dir: Path, *, speculation: str = "off"
) -> Child:
    """Loads an engine in a child process, with what `tokenmill up` gives a worker alone.

    Args:
        precision: of BYTES_PER_WEIGHT.
        model_dir: prepared model.
        log_dir: takes what the child says.
        speculation: off unless it is what is measured: a draft that is right is no decode step.

    Raises:
        ChildFailed: this build lacks the precision, or the engine does not load.
    """
    with in_company():
        child = Child(
            precision,
            [sys.executable, "-m", "worker.bench.engine"],
            log_file=log_dir / f"engine-{precision}.log",
            environment={
                **engine_environment(precision, model_dir, os.environ),
                "TOKENMILL_SPECULATION": speculation,
            },
        )
    if precision in QUANTIZED and "quantization" not in child.ready["settings"]:
        child.close()
        raise ChildFailed(precision, "this build has no quantization")
    return child


def engine_environment(
    precision: str, model_dir: Path, environment: Mapping[str, str]
) -> dict[str, str]:
    """Settings of an engine in one precision."""
    own = {
        "TOKENMILL_MODEL_DIR": str(model_dir),
        "TOKENMILL_DTYPE": "auto" if precision in QUANTIZED else precision,
        "TOKENMILL_QUANTIZATION": precision if precision in QUANTIZED else "none",
        # A batch is to decode as a whole: paced prefill would let its first sequence end early.
        "TOKENMILL_ITL_TARGET_MS": "0",
    }
    if not environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        own["GOMP_SPINCOUNT"] = str(GOMP_SPIN_COUNT)
    return own
