"""Starts a cluster and asks it from Node: `make client-node-test`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.cluster import running_cluster  # noqa: E402


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster(Path(folder) / "state") as cluster,
    ):
        asked = subprocess.run(
            ["node", str(Path(__file__).parent / "ask.mjs"), cluster.grpc_target],
            check=False,
            timeout=120,
        )
    return asked.returncode


if __name__ == "__main__":
    sys.exit(main())
