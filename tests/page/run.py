"""Starts a cluster, drives the page in it, and stops it: `make page-test`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.cluster import running_cluster, tokenmill  # noqa: E402

SHOTS = ROOT / "docs" / "images"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        with running_cluster(Path(folder) / "open") as cluster:
            code = drive("drive.mjs", cluster.url, str(SHOTS))
        if code:
            return code
        state_dir = Path(folder) / "keys"
        with running_cluster(state_dir, "--auth", "--engine", "fake") as cluster:
            options = ("--name", "page", "--requests-per-min", "1", "--json")
            made = json.loads(tokenmill("keys", "create", *options, state_dir=state_dir))
            return drive("drive_quota.mjs", cluster.url, made["api_key"])


def drive(script: str, *arguments: str) -> int:
    command = ["node", str(Path(__file__).parent / script), *arguments]
    return subprocess.run(command, check=False, timeout=600).returncode


if __name__ == "__main__":
    sys.exit(main())
