"""Drives clients that nobody here wrote against a cluster with API keys: `make clients`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from tests.clients.checks import Target  # noqa: E402
from tests.support.cluster import LocalCluster, running_cluster, tokenmill, wait_until  # noqa: E402
from worker.models.prepare import prepare_model  # noqa: E402

ENVIRONMENTS = ROOT / ".clients"
DRIVE_TIMEOUT_S = 900
# What is sent there is anything that the document allows: long answers must not take long.
FLAGS = {"schemathesis": ("--engine", "fake")}
SETTINGS = {"schemathesis": {"TOKENMILL_DEFAULT_MAX_TOKENS": "8"}}


def main(clients: list[str]) -> int:
    failed = [client for client in clients if not _passes(client)]
    print(f"failed: {', '.join(failed)}" if failed else f"all passed: {', '.join(clients)}")
    return 1 if failed else 0


def _passes(client: str) -> bool:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster(
            Path(folder) / "state",
            "--auth",
            *FLAGS.get(client, ()),
            environment=SETTINGS.get(client),
        ) as cluster,
    ):
        print(f"== {client}", flush=True)
        driven = subprocess.run(
            [str(ENVIRONMENTS / client / "bin" / "python"), str(HERE / f"drive_{client}.py")],
            env={**os.environ, **_target(cluster).environment()},
            cwd=folder,
            check=False,
            timeout=DRIVE_TIMEOUT_S,
        )
    return driven.returncode == 0


def _target(cluster: LocalCluster) -> Target:
    return Target(
        url=cluster.url,
        grpc_target=cluster.grpc_target,
        model=cluster.model,
        key=_new_key(cluster),
        narrow_key=_new_key(cluster, "--max-concurrent", "1"),
        tokenizer_dir=str(prepare_model().directory),
    )


def _new_key(cluster: LocalCluster, *flags: str) -> str:
    made = tokenmill(
        "keys", "create", "--name", "client", *flags, "--json", state_dir=cluster.state_dir
    )
    key = json.loads(made)["api_key"]
    wait_until(lambda: _is_known(cluster, key), 10, "the new key is in force")
    return key


def _is_known(cluster: LocalCluster, key: str) -> bool:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{cluster.url}/v1/models", headers=headers).status_code == 200


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
