"""The profiles beside the default: one table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tuning.figures import Figures
from benchmarks.tuning.goal import Quantity

DEFAULT = "default"
_TTFT, _TTFT_HIGH = Quantity("ttft", 0.5), Quantity("ttft", 0.95)
_GAP = Quantity("itl", 0.5)
_SPEED = Quantity("throughput")


def as_json(
    figures: Mapping[str, Mapping[str, Figures]], idle_mib: Mapping[str, float]
) -> dict[str, Any]:
    """All figures.

    Args:
        figures: by profile, then by load.
        idle_mib: by profile, memory of all processes before any load.
    """
    return {
        profile: {
            "memory_mib": {
                "idle": round(idle_mib[profile]),
                "loaded": round(max(one.memory_mib for one in loads.values())),
            },
            **{load: one.shown() for load, one in loads.items()},
        }
        for profile, loads in figures.items()
    }


def as_table(
    figures: Mapping[str, Mapping[str, Figures]], idle_mib: Mapping[str, float]
) -> list[str]:
    """Lines of a Markdown table; speed beside the default's in brackets."""
    loads = list(next(iter(figures.values())))
    heads = [
        f"{load}: TTFT p50 / p95, ms | {load}: gap p50, ms | {load}: tokens/s" for load in loads
    ]
    lines = [
        f"| profile | {' | '.join(heads)} | memory idle / loaded, MiB |",
        "|" + "---|" * (2 + 3 * len(loads)),
    ]
    for profile, measured in figures.items():
        cells: list[str] = []
        for load in loads:
            one, base = measured[load], figures[DEFAULT][load]
            ratio = one.value(_SPEED) / max(1e-9, base.value(_SPEED))
            cells += [
                f"{one.value(_TTFT):,.0f} / {one.value(_TTFT_HIGH):,.0f}",
                f"{one.value(_GAP):,.1f}",
                f"{one.value(_SPEED):,.0f} ({ratio:.2f}x)",
            ]
        loaded = max(one.memory_mib for one in measured.values())
        lines.append(
            f"| {profile} | {' | '.join(cells)} | {idle_mib[profile]:,.0f} / {loaded:,.0f} |"
        )
    return lines
