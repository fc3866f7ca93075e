from collections.abc import Sequence

import pytest

from benchmarks.peers.compare import Figure, compare
from benchmarks.peers.table import as_markdown
from benchmarks.peers.workload import (
    CELLS,
    Cell,
    Clients,
    Decode,
    cells_named,
    decode_tps,
    prefill_tps,
)
from benchmarks.prose import TokenStream


class FakeSide:
    """Answers figures in order and notes when it was asked."""

    def __init__(self, name: str, figures: Sequence[Figure], asked: list[str]) -> None:
        self._name = name
        self._figures = iter(figures)
        self._asked = asked

    def measure(self, cell: Cell) -> Figure:
        self._asked.append(self._name)
        return next(self._figures)


class FakeEngine:
    """Takes a hundredth of a second per prompt token and a tenth per new one."""

    def run(self, prompts: Sequence[Sequence[int]], max_tokens: int, concurrency: int) -> float:
        return sum(len(ids) for ids in prompts) * 0.01 + max_tokens * 0.1


def felt(p99: float) -> dict[str, dict[str, float]]:
    return {"itl_ms": {"p50": 10.0, "p90": 12.0, "p99": p99}}


def test_sides_take_turns_and_the_first_round_does_not_count():
    asked: list[str] = []
    ours = FakeSide("ours", [Figure(tps) for tps in (1, 90, 110, 100)], asked)
    peer = FakeSide("peer", [Figure(tps) for tps in (1, 40, 60, 50)], asked)
    cells = compare(ours, peer, [Decode()], num_rounds=3)
    assert asked == ["peer", "ours", "ours", "peer", "peer", "ours", "ours", "peer"]
    cell = cells["decode alone"]
    assert cell["ours_tps"] == 100
    assert cell["ours_range"] == [90, 110]
    assert cell["ratio"] == 2.0


def test_what_clients_felt_is_kept():
    asked: list[str] = []
    ours = FakeSide("ours", [Figure(1, felt(p99)) for p99 in (0, 20, 30, 40)], asked)
    peer = FakeSide("peer", [Figure(1)] * 4, asked)
    cells = compare(ours, peer, [Clients(32)], num_rounds=3)
    assert cells["32 clients"]["ours_felt"]["itl_ms"] == {"p50": 10, "p90": 12, "p99": 30}


def test_the_prefill_is_taken_out_of_decode():
    stream = TokenStream(list(range(5000)))
    assert decode_tps(FakeEngine(), stream) == pytest.approx(10)
    assert prefill_tps(FakeEngine(), stream) == pytest.approx(512 / 5.22)


def test_the_page_shows_both_sides_and_who_is_missing():
    side = FakeSide("", [Figure(50.0)] * 4, [])
    cells = compare(side, side, [Decode()], num_rounds=1)
    entry = {"title": "Peer", "variant": "BF16", "precision": "bf16", "cells": cells}
    page = as_markdown(
        {
            "peers": [entry],
            "skipped": {"other": "no wheel"},
            "model": "M",
            "num_threads": 2,
            "num_rounds": 1,
        }
    )
    assert "| Peer BF16 | 50 (50-50); ours 50 (50-50); **1.00x** |" in page
    assert "other: no wheel" in page


def test_cells_are_chosen_by_name_and_keep_their_order():
    assert cells_named([]) == CELLS
    assert cells_named(["32 clients", "decode alone"]) == (Decode(), Clients(32))
    with pytest.raises(ValueError, match="cell is '3 clients'; allowed: decode alone, prefill 512"):
        cells_named(["3 clients"])
