"""What a precision costs and saves: perplexity on a fixed text, bytes, tokens per second.

Every precision is measured in a worker process of its own (`python -m worker.bench_quality`), so
that resident memory is that precision's alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PRECISIONS = ("fp32", "bf16", "int8", "int4")
TEXT = Path(__file__).with_name("data") / "quality.txt"
TIMEOUT_S = 3600


class QualityFailed(Exception):
    """A precision could not be measured."""


def measure_precision(model_dir: Path, precision: str, num_tokens: int | None) -> dict[str, Any]:
    """Figures of one precision.

    Raises:
        QualityFailed: the worker process failed; why was said on stderr.
    """
    command = [sys.executable, "-m", "worker.bench_quality", "--text", str(TEXT)]
    if num_tokens is not None:
        command += ["--tokens", str(num_tokens)]
    is_quantized = precision.startswith("int")
    own = {
        "TOKENMILL_MODEL_DIR": str(model_dir),
        "TOKENMILL_DTYPE": "auto" if is_quantized else precision,
        # Memory is to be that of the weights.
        "TOKENMILL_KV_BYTES": str(64 << 20),
        "TOKENMILL_QUANTIZATION": precision if is_quantized else "none",
    }
    return json.loads(_run(command, own).strip().splitlines()[-1])


def perturb(model_dir: Path, own_dir: Path) -> Path:
    """A copy of a model whose weights lie on no four-bit grid.

    Raises:
        QualityFailed: it could not be made.
    """
    _run([sys.executable, "-m", "worker.quant.perturb", str(model_dir), str(own_dir)], {})
    return own_dir


def compare(figures: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Adds each precision's shares of float32, where that was measured too."""
    base = figures.get("fp32")
    for measured in figures.values():
        if base is not None:
            measured["perplexity_ratio"] = measured["perplexity"] / base["perplexity"]
            measured["weight_bytes_ratio"] = measured["weight_bytes"] / base["float32_bytes"]
    return dict(figures)


def _run(command: list[str], own: Mapping[str, str]) -> str:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **own},
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        raise QualityFailed(f"{' '.join(command[2:4])} ended with {done.returncode}")
    return done.stdout
