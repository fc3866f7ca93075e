"""Starts a cluster, drives the page in it, and stops it: `make page-test`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.cluster import running_cluster  # noqa: E402

SHOTS = ROOT / "docs" / "images"


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster(Path(folder) / "state") as cluster,
    ):
        driven = subprocess.run(
            ["node", str(Path(__file__).parent / "drive.mjs"), cluster.url, str(SHOTS)],
            check=False,
            timeout=600,
        )
    return driven.returncode


if __name__ == "__main__":
    sys.exit(main())
