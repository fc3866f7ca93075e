"""The report as Markdown. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchmarks.report.claims import CLAIMS, Claim, Reading, reading_of
from benchmarks.report.parts import Result

PLOT_NAME = "report.svg"


def readings(results: Mapping[str, Result]) -> list[tuple[Claim, Reading | None]]:
    """All claims in order, with what was measured of each."""
    return [
        (claim, reading_of(claim, results[claim.part].figures) if claim.part in results else None)
        for claim in CLAIMS
    ]


def as_markdown(results: Mapping[str, Result], *, has_plot: bool) -> str:
    """The page.

    Args:
        results: by name of part.
        has_plot: PLOT_NAME lies beside it.
    """
    found = readings(results)
    met = sum(reading is not None and reading.is_met for _, reading in found)
    missing = sum(reading is None for _, reading in found)
    machines = sorted({result.machine for result in results.values() if result.machine})
    lines = [
        "# What the document claims, and what is measured here",
        "",
        "`make bench-report` makes this page; what each part measured lies beside it as JSON.",
        f"Machine: {'; '.join(machines) or 'none yet'}. Model: SmolLM2-135M-Instruct.",
        "",
        "More of single subjects: [sessions](sessions.md), [gateway](gateway.md),"
        " [profiles](profiles.md), [tuning](tuning.md), [engine and method](README.md).",
        "",
        f"{met} of {len(found)} claims hold, {len(found) - met - missing} do not,"
        f" {missing} are not measured yet.",
        "",
        "| claim | document | before | after | ours | holds | part |",
        "|" + "---|" * 7,
        *(_row(claim, reading) for claim, reading in found),
        "",
    ]
    if has_plot:
        lines += [f"![Ours as a share of what the document claims]({PLOT_NAME})", ""]
    short = [(claim, reading) for claim, reading in found if reading and not reading.is_met]
    if short:
        lines += ["## Where we fall short", ""]
        lines += [
            f"- {claim.name}: {reading.ours}, {reading.share:.0%} of what is claimed"
            f" ({claim.document})."
            for claim, reading in short
        ]
        lines.append("")
    notes = [(claim, reading) for claim, reading in found if reading and reading.note]
    lines += ["## What each figure is", ""]
    lines += [f"- {claim.name}: {reading.note}." for claim, reading in notes]
    lines += ["", "## Parts", "", "| part | command | took | when |", "|" + "---|" * 4]
    lines += [_part_row(name, result) for name, result in results.items()]
    return "\n".join(lines) + "\n"


def _row(claim: Claim, reading: Reading | None) -> str:
    if reading is None:
        return f"| {claim.name} | {claim.document} | | | | not yet | {claim.part} |"
    holds = "yes" if reading.is_met else "**no**"
    return (
        f"| {claim.name} | {claim.document} | {reading.before} | {reading.after} |"
        f" {reading.ours} | {holds} | {claim.part} |"
    )


def _part_row(name: str, result: Result) -> str:
    if result.reason:
        return f"| {name} | `{result.command}` | left out: {result.reason} | |"
    when = time.strftime("%Y-%m-%d", time.gmtime(result.unix_s))
    return f"| {name} | `{result.command}` | {result.seconds:.0f} s | {when} |"
