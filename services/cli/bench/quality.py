"""`tokenmill quantize` and `tokenmill bench quality`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality import PRECISIONS, QualityFailed, compare, measure_precision, perturb
from services.cli.cluster.build import prepare_model
from services.cli.failure import CommandFailed
from services.cli.terminal import err


def quantize(model: str, kind: str, out_dir: Path) -> None:
    """Quantizes a model in a child process, which says how far it is.

    Raises:
        CommandFailed: it cannot be done.
    """
    prepared = prepare_model(model)
    command = [sys.executable, "-m", "worker.quant.quantize", prepared.directory]
    with subprocess.Popen([*command, "--to", kind, "--out", str(out_dir)]) as child:
        try:
            exit_code = child.wait()
        except KeyboardInterrupt:
            # The terminal told the child too; it removes what is half written.
            exit_code = child.wait()
    if exit_code != 0:
        raise CommandFailed(f"{model} could not be quantized", exit_code=exit_code)
    err.print(f"{kind} weights of {prepared.name} are in {out_dir}")


def quality(
    *, model: str | None, precisions: Sequence[str], num_tokens: int | None, is_perturbed: bool
) -> dict[str, Any]:
    """Measures each precision in a process of its own.

    Raises:
        CommandFailed: a precision is unknown, or one cannot be measured.
    """
    unknown = set(precisions) - set(PRECISIONS)
    if unknown:
        allowed = ", ".join(PRECISIONS)
        raise CommandFailed(f"precision is {sorted(unknown)[0]!r}; allowed: {allowed}", exit_code=2)
    model_dir = Path(prepare_model(model).directory)
    with tempfile.TemporaryDirectory(prefix="tokenmill-quality-") as own_dir:
        try:
            if is_perturbed:
                model_dir = perturb(model_dir, Path(own_dir))
            figures: dict[str, dict[str, Any]] = {}
            for name in precisions:
                figures[name] = measure_precision(model_dir, name, num_tokens)
                err.print(f"{name}: perplexity {figures[name]['perplexity']:.3f}")
        except QualityFailed as exc:
            raise CommandFailed(str(exc)) from exc
    return compare(figures)
