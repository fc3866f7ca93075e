"""Where the time of steps goes: by the phases of the native kernels, else by kind of operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

from worker.engine.step_phases import timed

try:
    from torch._C._profiler import _ExperimentalConfig
except ImportError:  # another torch: only this thread would be seen
    _ExperimentalConfig = None

_KINDS = (
    ("attention", ("attention", "attn", "sdpa", "softmax", "paged")),
    ("linear", ("linear", "mm", "matmul", "mkldnn", "onednn", "gemm")),
    ("norm and rope", ("norm", "rsqrt", "rope", "rotary", "cos", "sin")),
    ("whole step", ("decode_step", "run_step", "forward_step")),
)
OTHER = "other operations"
_OUTSIDE = {"layout", "sampling"}
"""Phases that any model has, around it."""


def profiled(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What run returns, and `operations`: seconds of their own by kind, over all steps.

    A model that times its phases does so at no cost; for another, run is called again, under
    torch's profiler.
    """
    with timed() as phases:
        figures = run()
    if phases.keys() - _OUTSIDE:
        return {**figures, "operations": dict(phases)}
    # The engine steps on a thread of its own.
    config = _ExperimentalConfig(profile_all_threads=True) if _ExperimentalConfig else None
    with profile(activities=[ProfilerActivity.CPU], experimental_config=config) as profiler:
        figures = run()
    seconds: dict[str, float] = {}
    names: dict[str, float] = {}
    for event in profiler.key_averages():
        own_s = event.self_cpu_time_total / 1e6
        kind = kind_of(event.key)
        seconds[kind] = seconds.get(kind, 0.0) + own_s
        names[event.key] = own_s
    largest = sorted(names.items(), key=lambda item: -item[1])[:12]
    return {**figures, "operations": seconds, "largest": dict(largest)}


def kind_of(name: str) -> str:
    """Kind of an operation, by its name."""
    lowered = name.lower()
    for kind, parts in _KINDS:
        if any(part in lowered for part in parts):
            return kind
    return OTHER
