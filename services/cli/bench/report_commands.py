"""`tokenmill bench profiles` and `report`: tables that others read, and their flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from services.cli import flags


def bench_profiles(
    as_json: flags.AsJson = False,
    loads: Annotated[
        str, typer.Option(help="Loads of `tokenmill tune`, by commas: chat, batch, mixed.")
    ] = "chat,batch",
    rounds: Annotated[int, typer.Option(min=1, help="Windows of each load on each profile.")] = 2,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for profiles.json and profiles.md too.", show_default=False),
    ] = None,
    model: flags.Model = None,
    engine: flags.Engine = "torch",
) -> None:
    """The three profiles beside the default: time to first token, tokens per second, memory."""
    from services.cli.bench.profiles import profiles, profiles_page

    result, lines = profiles(
        flags.parts(loads),
        num_rounds=rounds,
        model=model,
        engine=flags.check_engine(engine),
    )
    table = "\n".join(lines) + "\n"
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "profiles.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        (out / "profiles.md").write_text(profiles_page(table, result), encoding="utf-8")
    typer.echo(json.dumps(result) if as_json else table)


def bench_report(
    as_json: flags.AsJson = False,
    parts: Annotated[
        str,
        typer.Option(help="Which parts, by commas; default: all.", show_default=False),
    ] = "",
    minutes: Annotated[
        float, typer.Option(min=1, help="For all parts; the next call goes on with the rest.")
    ] = 30.0,
    again: Annotated[bool, typer.Option(help="Measure parts again that are kept.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for report.md and what it is made of.")] = Path(
        "docs/benchmarks"
    ),
) -> None:
    """What the user's document claims beside what is measured here, on one page."""
    from services.cli.bench.report import report

    result = report(out, names=flags.parts(parts), minutes=minutes, measures_again=again)
    if as_json:
        flags.print_json(result)
    else:
        typer.echo((out / "report.md").read_text(encoding="utf-8"))
