"""An explanation for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.cli.explain.explanation import Budget, Explanation
from services.cli.explain.parts import MEANINGS
from services.cli.explain.timeline import Stretch

_BAR_WIDTH = 48
_MAX_GAPS = 3
_NS_PER_MS = 1e6
_NOT_ATTRIBUTED = "not attributed"


def render_explanation(explanation: Explanation) -> RenderableType:
    """Headline, waterfall up to the first token, budgets of the whole and of the slowest gaps."""
    facts = "  ".join(f"{name}={_value(value)}" for name, value in explanation.facts.items())
    blocks: list[RenderableType] = [
        Text.assemble(
            (explanation.request_id, "bold"),
            f"  latency {_ms(explanation.latency.ms)}",
            f"  first token {_ms(explanation.ttft.ms)}" if explanation.ttft else "  no token",
        ),
        Text(f"trace {explanation.trace_id}  {facts}", style="dim"),
    ]
    if explanation.ttft is not None:
        blocks.append(_waterfall("until the first token", explanation.ttft))
    blocks.append(_budget_table("the whole request", explanation.latency))
    for gap in explanation.slow_gaps[:_MAX_GAPS]:
        since = (gap.window.start_ns - explanation.latency.window.start_ns) / _NS_PER_MS
        blocks.append(_budget_table(f"gap of {_ms(gap.ms)}, {_ms(since)} after the start", gap))
    return Group(*blocks)


def _waterfall(title: str, budget: Budget) -> Table:
    table = _table(title)
    table.add_column("")
    table.add_column("", style="cyan", no_wrap=True)
    table.add_column("", justify="right")
    for stretch in budget.stretches:
        ms = (stretch.end_ns - stretch.start_ns) / _NS_PER_MS
        table.add_row(stretch.part or _NOT_ATTRIBUTED, _bar(stretch, budget), _ms(ms))
    return table


def _budget_table(title: str, budget: Budget) -> Table:
    table = _table(title)
    for justify in ("left", "right", "right", "left"):
        table.add_column("", justify=justify)
    rows = [(part, ms, MEANINGS.get(part, "")) for part, ms in budget.parts_ms.items()]
    if budget.unattributed_ms:
        rows.append((_NOT_ATTRIBUTED, budget.unattributed_ms, "no span or step covers it"))
    for part, ms, meaning in rows:
        share = ms / budget.ms if budget.ms else 0.0
        table.add_row(part, _ms(ms), f"{share:.1%}", Text(meaning, style="dim"))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)


def _bar(stretch: Stretch, budget: Budget) -> str:
    total = max(budget.window.duration_ns, 1)
    first = (stretch.start_ns - budget.window.start_ns) * _BAR_WIDTH // total
    last = (stretch.end_ns - budget.window.start_ns) * _BAR_WIDTH // total
    return " " * first + ("█" * (last - first) or "▏")


def _value(value: object) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _ms(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.1f} ms"
