"""What a precision costs and saves: perplexity on a fixed text, bytes, tokens per second.

Every precision is measured in a worker process of its own (`python -m worker.bench.quality`), so
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

KV8 = "+kv8"
"""Ends the name of a precision whose K/V blocks are int8 too."""

_WEIGHTS = ("fp32", "bf16", "int8", "int4")
PRECISIONS = (*_WEIGHTS, *(name + KV8 for name in _WEIGHTS[1:]))
TEXT = Path(__file__).with_name("data") / "quality.txt"
TIMEOUT_S = 3600


class QualityFailed(Exception):
    """A precision could not be measured."""


def measure_precision(model_dir: Path, precision: str, num_tokens: int | None) -> dict[str, Any]:
    """Figures of one precision.

    Raises:
        QualityFailed: the worker process failed; why was said on stderr.
    """
    command = [sys.executable, "-m", "worker.bench.quality", "--text", str(TEXT)]
    if num_tokens is not None:
        command += ["--tokens", str(num_tokens)]
    weights = precision.removesuffix(KV8)
    is_quantized = weights.startswith("int")
    own = {
        "TOKENMILL_MODEL_DIR": str(model_dir),
        "TOKENMILL_DTYPE": "auto" if is_quantized else weights,
        # Memory is to be that of the weights.
        "TOKENMILL_KV_BYTES": str(64 << 20),
        "TOKENMILL_QUANTIZATION": weights if is_quantized else "none",
        "TOKENMILL_KV_DTYPE": "int8" if precision.endswith(KV8) else "auto",
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
    """Adds shares of float32, and of the same weights over K/V that is not int8, if measured."""
    base = figures.get("fp32")
    for name, measured in figures.items():
        same_weights = figures.get(name.removesuffix(KV8))
        if name.endswith(KV8) and same_weights is not None:
            for figure in ("perplexity", "kv_block_bytes"):
                ratio = measured[figure] / same_weights[figure]
                measured[f"{figure}_over_plain_kv"] = ratio
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
