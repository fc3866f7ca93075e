"""What this machine can do at most: reading memory, multiplying matrices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

_READ_BYTES = 512 << 20
"""Far beyond any cache."""
_GEMM_SIZE = 2048
_NUM_TRIALS = 5


def measure_machine() -> dict[str, Any]:
    """Medians with the threads that torch has here; a product that torch lacks is left out."""
    figures: dict[str, Any] = {
        "read_gb_per_s": _READ_BYTES / _seconds(_reader()) / 1e9,
        "num_threads": torch.get_num_threads(),
        "gemm_gop_per_s": {},
    }
    for name, run in _products().items():
        try:
            seconds = _seconds(run)
        except (RuntimeError, NotImplementedError):
            continue
        figures["gemm_gop_per_s"][name] = 2 * _GEMM_SIZE**3 / seconds / 1e9
    return figures


def _reader() -> Callable[[], Any]:
    values = torch.ones(_READ_BYTES // 4)
    return lambda: torch.dot(values, values)


def _products() -> dict[str, Callable[[], Any]]:
    shape = (_GEMM_SIZE, _GEMM_SIZE)
    generator = torch.Generator().manual_seed(0)
    fp32 = torch.randn(shape, generator=generator)
    bf16 = fp32.bfloat16()
    int8 = torch.randint(-127, 128, shape, generator=generator, dtype=torch.int8)
    return {
        "fp32": lambda: fp32 @ fp32,
        "bf16": lambda: bf16 @ bf16,
        "int8": lambda: torch.ops.aten._int_mm(int8, int8),
    }


def _seconds(run: Callable[[], Any]) -> float:
    run()
    trials: list[float] = []
    for _ in range(_NUM_TRIALS):
        began = time.perf_counter()
        run()
        trials.append(time.perf_counter() - began)
    return statistics.median(trials)
