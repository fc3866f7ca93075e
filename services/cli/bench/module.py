"""Runs a measurement in a process of its own, with nothing else measured meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.quiet import alone
from services.cli.failure import CommandFailed


def run_module(
    module: str, wanted: Mapping[str, Any], *, timeout_s: float, lacking: str
) -> dict[str, Any]:
    """What `python -m module` prints, as JSON, for what it reads from its input as JSON.

    Args:
        module: of benchmarks.
        wanted: its input.
        timeout_s: for all of it.
        lacking: what there is not if it fails, for people.

    Raises:
        CommandFailed: it ended with an error; its last line says which.
    """
    with alone():
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(wanted),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    if done.returncode != 0:
        last_words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise CommandFailed(f"there is {lacking}: {last_words[0]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
