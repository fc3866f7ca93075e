"""Makes the environment of a peer, once, from a package index alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.catalogue import Environment

INSTALL_TIMEOUT_S = 3600.0
"""A peer that has no wheel for this machine is compiled."""
_MARK = "installed.json"


class PeerUnavailable(Exception):
    """A peer cannot be installed or started here; the message says why."""


def install(environment: Environment, peers_dir: Path) -> Path:
    """The interpreter of a ready environment.

    Raises:
        PeerUnavailable: pip failed.
    """
    directory = peers_dir / environment.name
    python = directory / "venv" / "bin" / "python"
    mark = directory / _MARK
    wanted = json.dumps(environment.requirements)
    if mark.is_file() and mark.read_text() == wanted:
        return python
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "install.log"
    # Ours, on the other interpreter: to unpack one for each peer takes longer than some installs.
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    commands = [
        [sys.executable, "-m", "venv", "--without-pip", str(directory / "venv")],
        [*pip, "install", "--no-input", *environment.requirements],
    ]
    if environment.unloadable:
        commands.append([*pip, "uninstall", "--yes", *environment.unloadable])
    with log.open("w") as output:
        for command in commands:
            try:
                done = subprocess.run(
                    ["nice", "-n", "10", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **environment.build},
                    timeout=INSTALL_TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise PeerUnavailable(f"not installed within {INSTALL_TIMEOUT_S:g} s") from None
            if done.returncode != 0:
                raise PeerUnavailable(f"not installed: {_last_line(log)}")
    mark.write_text(wanted)
    return python


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["pip said nothing"])[-1].strip()
