"""Rolling restart of two gateways behind nginx, under load: `make nginx-test`."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.cluster import LocalCluster, running_cluster, wait_until  # noqa: E402

NUM_CLIENTS = 24
MAX_TOKENS = 40
CONFIG = ROOT / "deploy" / "nginx" / "nginx.conf"


def main() -> int:
    """Prints what came of all requests as JSON; fails if one of them did."""
    if shutil.which("nginx") is None:
        sys.exit("nginx is not there: apt-get install nginx-light")
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster(
            Path(folder) / "state",
            *("--engine", "fake", "--workers", "2", "--gateways", "2"),
            environment={"TOKENMILL_FAKE_STEP_TIME_S": "0.02"},
        ) as cluster,
        running_nginx(Path(folder), cluster) as url,
    ):
        outcomes = asyncio.run(load_while_restarting(cluster, url))
    sys.stdout.write(json.dumps(dict(outcomes)) + "\n")
    return 0 if set(outcomes) == {"whole"} else 1


@contextmanager
def running_nginx(folder: Path, cluster: LocalCluster) -> Iterator[str]:
    """The example's configuration with this cluster's ports; yields its address."""
    entries = cluster.processes("gateway")
    http, grpc = free_ports(2)
    ports = {"8000": http, "8001": grpc}
    for (http_port, grpc_port), entry in zip(
        (("8080", "50051"), ("8082", "50053")), entries, strict=True
    ):
        ports[http_port], ports[grpc_port] = entry["http_port"], entry["grpc_port"]
    text = re.sub(
        r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{ports[found[1]]}", CONFIG.read_text()
    )
    home = folder / "nginx"
    home.mkdir()
    (home / "nginx.conf").write_text(text)
    command = ["nginx", "-p", str(home), "-c", str(home / "nginx.conf"), "-e", "error.log"]
    with subprocess.Popen([*command, "-g", "daemon off;"]) as process:
        try:
            url = f"http://127.0.0.1:{http}"
            wait_until(lambda: is_ready(url), 20, "nginx answers")
            yield url
        finally:
            process.send_signal(signal.SIGTERM)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in with_sockets]
    for one in with_sockets:
        one.close()
    return ports


def is_ready(url: str) -> bool:
    """Whether a gateway is reached."""
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


async def load_while_restarting(cluster: LocalCluster, url: str) -> Counter[str]:
    """Asks without pause while each gateway in turn is told to stop and comes back."""
    outcomes: Counter[str] = Counter()
    is_over = asyncio.Event()

    async def ask_on() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            while not is_over.is_set():
                outcomes[await ask(client, cluster.model)] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(NUM_CLIENTS):
            tasks.create_task(ask_on())
        await asyncio.sleep(2)
        for entry in cluster.processes("gateway"):
            old_pid = cluster.kill(entry["name"], signal.SIGTERM)
            await asyncio.to_thread(cluster.wait_restarted, entry["name"], old_pid)
            await asyncio.sleep(2)
        is_over.set()
    return outcomes


async def ask(client: httpx.AsyncClient, model: str) -> str:
    """One streamed answer; `whole` if it came to its end."""
    body = {
        "model": model,
        "prompt": "One, two,",
        "max_tokens": MAX_TOKENS,
        "ignore_eos": True,
        "stream": True,
    }
    try:
        async with client.stream("POST", "/v1/completions", json=body) as reply:
            text = (await reply.aread()).decode()
    except httpx.HTTPError as exc:
        return f"{type(exc).__name__}: {exc}"
    if reply.status_code != 200:
        return f"{reply.status_code}: {text[:120]}"
    return "whole" if text.endswith("data: [DONE]\n\n") and '"error"' not in text else "broken off"


if __name__ == "__main__":
    sys.exit(main())
