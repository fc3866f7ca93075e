"""A look for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_BAR_WIDTH = 16
_FULL, _EMPTY = "█", "░"


def render_look(told: dict[str, Any]) -> RenderableType:
    """Headline, rates and percentiles, then workers and processes.

    Args:
        told: as Look.as_json gives it.
    """
    waiting = "  ".join(f"{name} {count}" for name, count in told["waiting"].items()) or "none"
    blocks: list[RenderableType] = [
        Text.assemble((told["model"], "bold"), f"  {told['url']}"),
        Text(
            f"requests/s {told['requests_per_s']:.1f}   failed/s {told['failed_per_s']:.2f}   "
            f"tokens/s {told['tokens_per_s']:.0f}   running {told['running']}   waiting: {waiting}"
        ),
        Text(f"first token {_times(told['ttft_ms'])}   between tokens {_times(told['itl_ms'])}"),
    ]
    if told["reasons_against"]:
        blocks.append(Text("not ready: " + "; ".join(told["reasons_against"]), style="red"))
    return Group(*blocks, Text(), _workers(told), Text(), _processes(told))


def _workers(told: dict[str, Any]) -> Table:
    table = _table("worker", "state", "running", "waiting", "batch", "K/V pool", "to prefill")
    for worker in told["workers"]:
        style = "" if worker["state"] == "ready" else "red"
        table.add_row(
            Text(worker["worker_id"], style=style),
            Text(worker["state"], style=style),
            str(worker["running"]),
            str(worker["waiting"]),
            _bar(worker["running"], worker["max_requests"]),
            _bar(worker["kv_blocks_used"], worker["kv_blocks"]),
            str(worker["pending_prefill_tokens"]),
        )
    return table


def _processes(told: dict[str, Any]) -> Table:
    table = _table("process", "health", "CPU", "memory", "in steps", "cache hits", "restarts")
    for process in told["processes"]:
        is_well = process["is_ready"]
        table.add_row(
            process["name"],
            Text("ready" if is_well else "not ready", style="green" if is_well else "red"),
            _share(process["cpu"]),
            _size(process["resident_bytes"]),
            _share(process["utilisation"]),
            _share(process["hit_share"]),
            str(process["num_restarts"]),
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading)
    return table


def _bar(part: float, whole: float) -> str:
    share = min(1.0, part / whole) if whole else 0.0
    num_full = round(share * _BAR_WIDTH)
    return f"{_FULL * num_full}{_EMPTY * (_BAR_WIDTH - num_full)} {share:4.0%}"


def _times(percentiles: dict[str, float] | None) -> str:
    if percentiles is None:
        return "-"
    return " ".join(f"{name} {ms:.0f}" for name, ms in percentiles.items()) + " ms"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _size(size_bytes: float | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / (1 << 20):,.0f} MiB"
