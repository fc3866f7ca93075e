"""A picture of hit shares by size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_STYLES = {"hybrid": {"linewidth": 2.5}, "optimal": {"color": "black", "linestyle": "--"}}


def plot(report: dict[str, Any], path: Path) -> None:
    """Draws a curve per policy; the ending of the path chooses the format.

    Raises:
        OSError: the file cannot be written.
    """
    # Slow to import, and of no use without a picture.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = report["sizes"]
    sizes = [100 * float(size) for size in rows]
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name in next(iter(rows.values())):
        shares = [100 * row[name] for row in rows.values()]
        axes.plot(sizes, shares, marker="o", label=name, **_STYLES.get(name, {}))
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.set_xlabel("size of the cache, % of the blocks in the trace")
    axes.set_ylabel("blocks hit, %")
    axes.set_title(Path(str(report["trace"])).name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
