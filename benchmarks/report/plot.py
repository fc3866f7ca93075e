"""The report's picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report.claims import Claim, Reading

_MOST = 3.0
"""Bars end here: what is more than three times as good needs no longer one."""


def plot(found: Sequence[tuple[Claim, Reading | None]], path: Path) -> bool:
    """Draws each claim's share of the document's figure.

    Returns:
        False where matplotlib is not installed, or nothing was measured.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        # Slow to import, and of no use without a picture.
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    measured = [(claim, reading) for claim, reading in found if reading is not None]
    if not measured:
        return False
    figure = Figure(figsize=(10, 0.42 * len(measured) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    bars = axes.barh(
        [f"{claim.name} ({claim.document})" for claim, _ in measured],
        [min(_MOST, reading.share) for _, reading in measured],
        color=["#3a7d44" if reading.is_met else "#c0562f" for _, reading in measured],
    )
    axes.bar_label(bars, [reading.ours for _, reading in measured], padding=4)
    axes.axvline(1.0, color="#444444", linewidth=1)
    axes.set_xlim(0, _MOST * 1.2)
    axes.set_xlabel("ours as a share of what the document claims at least (line: the claim)")
    axes.invert_yaxis()
    # The same figures shall make the same file.
    with matplotlib.rc_context({"svg.hashsalt": "tokenmill"}):
        figure.savefig(path, metadata={"Date": None})
    return True
