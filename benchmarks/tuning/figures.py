"""What a load felt and used, and the sums of several. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.tuning.goal import Quantity
from services.core.percentile import percentile

_SHOWN = (
    Quantity("throughput"),
    Quantity("ttft", 0.5),
    Quantity("ttft", 0.95),
    Quantity("itl", 0.5),
    Quantity("itl", 0.99),
    Quantity("latency", 0.5),
    Quantity("memory"),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One or more windows of one load on one cluster.

    Attributes:
        seconds: of all windows together.
        output_tokens: that clients were given in them.
        samples: by metric, ms; one of each answer, for itl one of each gap.
        memory_mib: the most that all processes held.
        errors: requests without an answer.
    """

    seconds: float = 0.0
    output_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    samples: dict[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    memory_mib: float = 0.0
    errors: int = 0

    def value(self, quantity: Quantity) -> float:
        """One figure; the worst there is where nothing was measured."""
        if quantity.metric == "throughput":
            return self.output_tokens / self.seconds if self.seconds else 0.0
        if quantity.metric == "memory":
            return self.memory_mib or math.inf
        samples = self.samples.get(quantity.metric, ())
        if not samples:
            return math.inf
        if quantity.share is None:
            return statistics.fmean(samples)
        return percentile(samples, quantity.share)

    def shown(self) -> dict[str, Any]:
        """The usual ones, for JSON; None where nothing was measured."""
        found = {str(quantity): self.value(quantity) for quantity in _SHOWN}
        return {
            **{name: round(v, 1) if math.isfinite(v) else None for name, v in found.items()},
            "output_tokens": self.output_tokens,
            "seconds": round(self.seconds, 2),
            "errors": self.errors,
        }


def together(windows: Iterable[Figures]) -> Figures:
    """Several windows as one."""
    every = list(windows)
    metrics = {metric for window in every for metric in window.samples}
    return Figures(
        seconds=sum(window.seconds for window in every),
        output_tokens=sum(window.output_tokens for window in every),
        prompt_tokens=sum(window.prompt_tokens for window in every),
        cached_tokens=sum(window.cached_tokens for window in every),
        samples={
            metric: [value for window in every for value in window.samples.get(metric, ())]
            for metric in sorted(metrics)
        },
        memory_mib=max((window.memory_mib for window in every), default=0.0),
        errors=sum(window.errors for window in every),
    )
