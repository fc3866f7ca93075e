"""A picture of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PANELS = (
    ("TTFT p90, ms", lambda figures: figures["ttft_ms"]["p90"]),
    ("prompt tokens from cache, %", lambda figures: 100 * figures["hit_share"]),
    ("goodput, requests/s", lambda figures: figures["goodput_rps"]),
    ("rejected, requests", lambda figures: figures["rejected"]),
)


def plot(result: dict[str, Any], path: Path) -> None:
    """Draws bars per policy; the ending of the path chooses the format.

    Raises:
        OSError: the file cannot be written.
    """
    # Slow to import, and of no use without a picture.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(result["policies"])
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{result['workers']} workers, {result['requests_per_s']} requests/s")
    for idx, (title, read) in enumerate(_PANELS):
        axes = figure.add_subplot(2, 2, idx + 1)
        bars = axes.barh(names, [read(result["policies"][name]) for name in names])
        axes.bar_label(bars, fmt="%.4g", padding=3)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_title(title)
    figure.savefig(path)


def plot_grid(result: dict[str, Any], path: Path) -> None:
    """Draws a row of panels per fleet, figures over the load; the ending chooses the format.

    Raises:
        OSError: the file cannot be written.
    """
    # Slow to import, and of no use without a picture.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fleets = sorted({cell["workers"] for cell in result["cells"]})
    figure = Figure(figsize=(16, 4 * len(fleets)), layout="constrained")
    FigureCanvasAgg(figure)
    for row, num_workers in enumerate(fleets):
        cells = [cell for cell in result["cells"] if cell["workers"] == num_workers]
        loads = [100 * cell["load"] for cell in cells]
        for column, (title, read) in enumerate(_PANELS):
            axes = figure.add_subplot(len(fleets), len(_PANELS), row * len(_PANELS) + column + 1)
            for name in cells[0]["policies"]:
                axes.plot(loads, [read(cell["policies"][name]) for cell in cells], "o-", label=name)
            axes.set_title(f"{title}, {num_workers} workers")
            axes.set_xlabel("load, % of what least-loaded carries")
            if column == 0:
                axes.set_yscale("log")
                axes.legend(fontsize="small")
    figure.savefig(path)
