"""`tokenmill logs`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import typer
from rich.text import Text

from services.cli.failure import CommandFailed
from services.cli.logs.files import LogDirectory
from services.cli.logs.lines import LogLine, RequestFilter, line_as_json
from services.cli.terminal import out

_POLL_S = 0.25
_LEVEL_STYLES = {"warning": "yellow", "error": "bold red", "critical": "bold red"}
# Long, equal on every line of a request, and told by `--request` and `trace` anyway.
_UNSHOWN = frozenset({"trace_id", "span_id"})


def logs(
    state_dir: Path, *, request_id: str | None, process: str | None, follow: bool, as_json: bool
) -> None:
    """Prints what the processes said; with follow, goes on until Ctrl-C.

    Raises:
        CommandFailed: there are no logs.
    """
    directory = state_dir / "logs"
    if not directory.is_dir():
        raise CommandFailed(f"no logs are kept in {state_dir}")
    source = LogDirectory(directory)
    only = RequestFilter(request_id) if request_id else None
    show = _show_json if as_json else _show_text

    def wanted(lines: Iterable[LogLine]) -> list[LogLine]:
        own = [line for line in lines if process is None or line.process.startswith(process)]
        return own if only is None else only.keep(own)

    _print(wanted(source.read()), show)
    while follow:
        time.sleep(_POLL_S)
        _print(wanted(source.read()), show)


def _print(lines: Iterable[LogLine], show: Callable[[LogLine], None]) -> None:
    for line in lines:
        show(line)


def _show_json(line: LogLine) -> None:
    typer.echo(line_as_json(line))


def _show_text(line: LogLine) -> None:
    moment = datetime.fromtimestamp(line.unix_s).strftime("%H:%M:%S.%f")[:-3]
    facts = " ".join(
        f"{name}={value}" for name, value in line.fields.items() if name not in _UNSHOWN
    )
    text = Text.assemble(
        (f"{moment} ", "dim"),
        (f"{line.process:<12} ", "green"),
        (line.event, _LEVEL_STYLES.get(line.level, "bold")),
        (f"  {facts}" if facts else "", "dim"),
    )
    out.print(text, soft_wrap=True)
