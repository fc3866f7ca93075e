"""`tokenmill bench report`: runs the benches that the document's claims need, one after another."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report.page import PLOT_NAME, as_markdown, readings
from benchmarks.report.parts import PARTS, Part, Result
from benchmarks.report.plot import plot
from services.cli.failure import CommandFailed
from services.cli.terminal import err

KEPT_DIR = "report"
_TAIL_CHARS = 300
_STOP_TIMEOUT_S = 120.0


def report(
    out_dir: Path, *, names: Sequence[str], minutes: float, measures_again: bool
) -> dict[str, Any]:
    """Runs what is not kept yet, as far as the time goes, and writes the page.

    Args:
        out_dir: takes report.md, its picture, and a folder with each part's JSON.
        names: of PARTS; none: all.
        minutes: for all parts together; what does not fit is left for the next call.
        measures_again: parts that are kept too.

    Raises:
        CommandFailed: a name is unknown, or a file cannot be written.
    """
    known = {part.name: part for part in PARTS}
    for name in names:
        if name not in known:
            allowed = ", ".join(known)
            raise CommandFailed(f"--parts is {name!r}; allowed: {allowed}", exit_code=2)
    kept_dir = out_dir / KEPT_DIR
    ends_s = time.monotonic() + minutes * 60
    results: dict[str, Result] = {}
    try:
        kept_dir.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            kept = _kept(kept_dir / f"{part.name}.json")
            is_wanted = not names or part.name in names
            if is_wanted and (kept is None or measures_again):
                found = _run(part, ends_s - time.monotonic())
                if found.reason:
                    err.print(f"{part.name} is left out: {found.reason}")
                else:
                    _keep(kept_dir / f"{part.name}.json", found)
                # An older figure is better than none.
                kept = kept if found.reason and kept is not None else found
            results[part.name] = kept or Result(part.command, reason="not asked for")
        has_plot = plot(readings(results), out_dir / PLOT_NAME)
        page = as_markdown(results, has_plot=has_plot)
        (out_dir / "report.md").write_text(page, encoding="utf-8")
    except OSError as exc:
        raise CommandFailed(f"{out_dir} cannot be written: {exc}") from exc
    err.print(f"written: {out_dir / 'report.md'}")
    return _as_json(results)


def _run(part: Part, left_s: float) -> Result:
    if left_s < part.least_s:
        return Result(part.command, reason="the time is up; the next call goes on here")
    err.print(f"{part.name}: {part.command}")
    began_s, unix_s = time.monotonic(), time.time()
    with subprocess.Popen(
        [sys.executable, "-m", "services.cli.main", "bench", *part.arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        stdout, stderr, is_late = _read(child, left_s)
    if is_late:
        return Result(part.command, reason=f"not done within the {left_s:.0f} s that were left")
    if child.returncode != 0:
        return Result(part.command, reason=_why(stderr))
    try:
        figures: Mapping[str, Any] = json.loads(stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Result(part.command, reason="it printed no JSON")
    return Result(
        part.command,
        figures,
        machine=_machine(),
        unix_s=round(unix_s),
        seconds=round(time.monotonic() - began_s, 1),
    )


def _read(child: subprocess.Popen[str], timeout_s: float) -> tuple[str, str, bool]:
    try:
        return *child.communicate(timeout=timeout_s), False
    except subprocess.TimeoutExpired:
        # As Ctrl-C does it: a bench stops the clusters that it started.
        child.send_signal(signal.SIGINT)
    try:
        return *child.communicate(timeout=_STOP_TIMEOUT_S), True
    except subprocess.TimeoutExpired:
        child.kill()
        return *child.communicate(), True


def _why(text: str) -> str:
    if "No such command" in text:
        return "this build has no such bench"
    lines = text.strip().splitlines()
    return lines[-1][-_TAIL_CHARS:] if lines else "it failed and said nothing"


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{os.cpu_count()} CPUs, {next(names, platform.machine())}, no GPU used"


def _kept(path: Path) -> Result | None:
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as exc:
        raise CommandFailed(f"{path} is no part of a report; remove it") from exc


def _keep(path: Path, result: Result) -> None:
    path.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


def _as_json(results: Mapping[str, Result]) -> dict[str, Any]:
    return {
        "claims": [
            {
                "name": claim.name,
                "document": claim.document,
                "part": claim.part,
                **({} if reading is None else {**asdict(reading), "is_met": reading.is_met}),
            }
            for claim, reading in readings(results)
        ],
        "left_out": {name: one.reason for name, one in results.items() if one.reason},
    }
