"""`tokenmill bench speculation`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.children import Child, ChildFailed
from benchmarks.engine import BYTES_PER_WEIGHT
from benchmarks.speculation import MODES, SpeculationPlan, measure_speculation
from services.cli.bench.engine import start_engine
from services.cli.cluster.build import prepare_model
from services.cli.failure import CommandFailed
from services.cli.terminal import err


def speculation(plan: SpeculationPlan, *, model: str | None, precision: str) -> dict[str, Any]:
    """Measures what guessing ahead gains in one precision.

    Raises:
        CommandFailed: the precision is unknown, or an engine fails.
    """
    if precision not in BYTES_PER_WEIGHT:
        allowed = ", ".join(BYTES_PER_WEIGHT)
        raise CommandFailed(f"precision is {precision!r}; allowed: {allowed}", exit_code=2)
    model_dir = Path(prepare_model(model).directory)
    with (
        tempfile.TemporaryDirectory(prefix="tokenmill-bench-") as logs,
        contextlib.ExitStack() as stack,
    ):
        children: dict[str, Child] = {}
        try:
            for mode in MODES:
                child = start_engine(precision, model_dir, Path(logs), speculation=mode)
                children[mode] = stack.enter_context(child)
            result = measure_speculation(
                children,
                plan,
                Tokenizer.from_file(str(model_dir / "tokenizer.json")),
                lambda text: err.print(text),
            )
        except ChildFailed as exc:
            raise CommandFailed(f"an engine failed: {exc}") from exc
    return {
        **result,
        "precision": precision,
        "model": model_dir.name,
        "num_cpus": os.cpu_count(),
    }
