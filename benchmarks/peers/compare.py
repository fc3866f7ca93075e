"""Two sides in turn, cell by cell, and what comes of it."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.peers.workload import Cell


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement.

    Attributes:
        tps: tokens per second.
        felt: what else a client saw, in the words of `bench serve`.
        load_average: of the machine when it began, over a minute.
    """

    tps: float
    felt: Mapping[str, Any] = field(default_factory=dict[str, Any])
    load_average: float = field(default_factory=lambda: os.getloadavg()[0])


class Side(Protocol):
    """Whoever is measured."""

    def measure(self, cell: Cell) -> Figure:
        """One cell, once."""
        ...


def compare(
    ours: Side,
    peer: Side,
    cells: Sequence[Cell],
    num_rounds: int,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measures each cell on both sides, who begins changing from round to round.

    A first round of each cell is not counted: caches, compilers and buffers find their size.
    """
    found: dict[str, dict[str, list[Figure]]] = {
        cell.name: {"ours": [], "peer": []} for cell in cells
    }
    sides = {"ours": ours, "peer": peer}
    for round_idx in range(num_rounds + 1):
        names = list(sides) if round_idx % 2 else list(sides)[::-1]
        for cell in cells:
            for name in names:
                figure = sides[name].measure(cell)
                if round_idx:
                    found[cell.name][name].append(figure)
        report(f"round {round_idx} of {num_rounds}" if round_idx else "warm")
    return {name: _cell(figures["ours"], figures["peer"]) for name, figures in found.items()}


def _cell(ours: Sequence[Figure], peer: Sequence[Figure]) -> dict[str, Any]:
    ours_tps = statistics.median(figure.tps for figure in ours)
    peer_tps = statistics.median(figure.tps for figure in peer)
    loads = [figure.load_average for figure in (*ours, *peer)]
    cell: dict[str, Any] = {
        "ours_tps": round(ours_tps, 1),
        "ours_range": _range(ours),
        "peer_tps": round(peer_tps, 1),
        "peer_range": _range(peer),
        "ratio": round(ours_tps / peer_tps, 2),
        "load_average": [round(min(loads), 1), round(max(loads), 1)],
    }
    if ours[0].felt:
        cell["ours_felt"] = {
            what: {
                share: round(statistics.median(figure.felt[what][share] for figure in ours), 1)
                for share in ("p50", "p90", "p99")
            }
            for what in ours[0].felt
        }
    return cell


def _range(figures: Sequence[Figure]) -> list[float]:
    values = [figure.tps for figure in figures]
    return [round(min(values), 1), round(max(values), 1)]
