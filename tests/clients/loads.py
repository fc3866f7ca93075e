"""Load generators as programs: runs one, and reads what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TIMEOUT_S = 400


def run_program(name: str, *arguments: str) -> str:
    """What a program of this environment says; fails with the end of it."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / name), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    return done.stdout


def report(pattern: str) -> Any:
    """The one JSON file below the current directory with this name."""
    (path,) = Path.cwd().rglob(pattern)
    return json.loads(path.read_text())
