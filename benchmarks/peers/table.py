"""A run as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_markdown(run: Mapping[str, Any]) -> str:
    """One table for each precision; in each cell the peer's figure, ours, and the ratio."""
    parts = [_head(run)]
    for precision in dict.fromkeys(entry["precision"] for entry in run["peers"]):
        entries = [entry for entry in run["peers"] if entry["precision"] == precision]
        cells = list(entries[0]["cells"])
        lines = [f"## {precision}", ""]
        lines.append("| peer | " + " | ".join(cells) + " |")
        lines.append("|---" * (len(cells) + 1) + "|")
        for entry in entries:
            row = [_cell(entry["cells"].get(name)) for name in cells]
            lines.append(f"| {entry['title']} {entry['variant']} | " + " | ".join(row) + " |")
        parts.append("\n".join(lines))
    if run["skipped"]:
        parts.append(
            "Not measured: " + "; ".join(f"{name}: {why}" for name, why in run["skipped"].items())
        )
    return "\n\n".join(parts) + "\n"


def _head(run: Mapping[str, Any]) -> str:
    return (
        "# Peers\n\n"
        f"{run['model']}, {run['num_threads']} threads, {run['num_rounds']} rounds,"
        " sides in turn. Tokens per second, medians with their range; **ratio** is ours to the"
        " peer's in the same rounds. Made by `make bench-peers`."
    )


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "-"
    return (
        f"{_figure(cell['peer_tps'], cell['peer_range'])}; ours"
        f" {_figure(cell['ours_tps'], cell['ours_range'])}; **{cell['ratio']:.2f}x**"
    )


def _figure(median: float, spread: tuple[float, float]) -> str:
    return f"{median:.0f} ({spread[0]:.0f}-{spread[1]:.0f})"
