"""Shows that the dashboards and alert rules work: `python deploy/metrics_check.py [--seconds 30]`.

Starts a cluster (fake engine, two workers), puts a mixed load on it, and lets a real Prometheus
scrape it by the file that `tokenmill up` keeps. Then it runs the query of every panel and looks at
every rule. Prints JSON; exit status 0 if no panel was empty and no rule was wrong.

Needs `prometheus` and `promtool` (apt-get install prometheus).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
RULES = HERE / "prometheus" / "rules.yml"
DASHBOARDS = HERE / "grafana" / "dashboards"
NEEDS_GPU = {"tokenmill-gpu"}
SCRAPE_S = 1
RATE_INTERVAL = "10s"
READY_WITHIN_S = 20.0
# Long enough for blocks to be cached, short enough for many answers.
TEXT = "You are a careful assistant of a library. Answer in a few words. " * 12
ENVIRONMENT = {
    "TOKENMILL_FAKE_STEP_TIME_S": "0.01",
    "TOKENMILL_FAKE_PREFILL_S_PER_TOKEN": "0.0001",
    # Small, so that sequences are preempted and blocks come back from the cache service.
    "TOKENMILL_NUM_BLOCKS": "40",
}


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the load lasts")
    seconds = parser.parse_args().seconds
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed: apt-get install prometheus")
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        with cluster(directory / "state") as state, prometheus(directory) as url:
            asyncio.run(load(state, seconds))
            wait_scraped(url, state)
            report = {"targets": targets(url), "panels": panels(url), "rules": rules(url)}
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")
    is_good = (
        not report["panels"]["empty"]
        and not report["rules"]["unhealthy"]
        and not report["targets"]["down"]
    )
    sys.exit(0 if is_good else 1)


@contextmanager
def cluster(state_dir: Path) -> Iterator[dict[str, Any]]:
    """A running cluster, as its state file has it."""
    flags = [
        "--engine",
        "fake",
        "--workers",
        "2",
        "--gateways",
        "2",
        "--http-port",
        "0",
        "--grpc-port",
        "0",
    ]
    run = [sys.executable, "-m", "services.cli.main"]
    place = ["--state-dir", str(state_dir)]
    environment = {**os.environ, **ENVIRONMENT}
    subprocess.run(
        [*run, "up", "--detach", *flags, *place], env=environment, check=True, stdout=sys.stderr
    )
    try:
        yield json.loads((state_dir / "cluster.json").read_text())
    finally:
        subprocess.run([*run, "down", *place], check=True, stdout=sys.stderr)


@contextmanager
def prometheus(directory: Path) -> Iterator[str]:
    """A Prometheus that scrapes the cluster and knows the rules; its address."""
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [str(RULES.resolve())],
        "scrape_configs": [
            {
                "job_name": "tokenmill",
                "file_sd_configs": [
                    {"files": [str(directory / "state" / "prometheus-targets.json")]}
                ],
            }
        ],
    }
    # JSON is YAML.
    path = directory / "prometheus.yml"
    path.write_text(json.dumps(config))
    subprocess.run(["promtool", "check", "config", str(path)], check=True, stdout=sys.stderr)
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={path}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ],
        stdout=sys.stderr,
    )
    try:
        wait_for(f"http://{address}/-/ready")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(url: str) -> None:
    """Until it answers 200."""
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            sys.exit(f"{url} is not ready within {READY_WITHIN_S:g} s")
        time.sleep(0.1)


def wait_scraped(url: str, state: dict[str, Any]) -> None:
    """Until every process was scraped since the load ended."""
    time.sleep(2 * SCRAPE_S)
    wanted = sum(process["metrics_port"] is not None for process in state["processes"])
    if len(targets(url)["up"]) != wanted:
        sys.exit(f"{wanted} processes tell metrics; Prometheus found {targets(url)}")


async def load(state: dict[str, Any], seconds: float) -> None:
    """Streams beside each other: short and long prompts, three classes, some that are refused."""
    until = time.monotonic() + seconds
    urls = [
        f"http://127.0.0.1:{process['http_port']}"
        for process in state["processes"]
        if process["role"] == "gateway"
    ]
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:

        async def caller(idx: int) -> None:
            turn = 0
            while time.monotonic() < until:
                turn += 1
                body = {
                    "model": state["model_name"],
                    # More prompts than the pools hold, so that some come from the cache service.
                    "messages": [
                        {"role": "user", "content": f"Reader {(idx + turn) % 60}. {TEXT}"}
                    ],
                    "max_tokens": 4 + 8 * (idx % 4),
                    "stream": True,
                    "ignore_eos": True,
                    # Every so often one that can only be refused.
                    **({"temperature": -1} if turn % 5 == 0 else {}),
                }
                url = f"{urls[idx % len(urls)]}/v1/chat/completions"
                async with client.stream("POST", url, json=body) as reply:
                    async for _ in reply.aiter_raw():
                        pass

        await asyncio.gather(*(caller(idx) for idx in range(24)))


def targets(url: str) -> dict[str, list[str]]:
    """Processes by whether they were scraped."""
    found: dict[str, list[str]] = {"up": [], "down": []}
    for target in ask(url, "targets")["activeTargets"]:
        kind = "up" if target["health"] == "up" else "down"
        found[kind].append(target["labels"]["process"])
    return {kind: sorted(names) for kind, names in found.items()}


def panels(url: str) -> dict[str, Any]:
    """Runs every query of every panel."""
    num_queries, empty, skipped = 0, [], []
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                place = f"{path.stem} / {panel['title']} / {target['legendFormat']}"
                if path.stem in NEEDS_GPU and not values(
                    url, "tokenmill_worker_gpu_memory_used_bytes"
                ):
                    skipped.append(place)
                    continue
                num_queries += 1
                if not values(url, target["expr"].replace("$__rate_interval", RATE_INTERVAL)):
                    empty.append(f"{place}: {target['expr']}")
    return {"num_queries": num_queries, "empty": empty, "skipped_without_gpu": skipped}


def values(url: str, query: str) -> list[float]:
    """Numbers that a query gives now."""
    result = ask(url, "query", query=query)["result"]
    numbers = [float(series["value"][1]) for series in result]
    return [number for number in numbers if math.isfinite(number)]


def rules(url: str) -> dict[str, Any]:
    """What became of the alert rules, and which have no metric to look at."""
    unhealthy, firing, names = [], [], []
    known = set(ask(url, "label/__name__/values"))
    for group in ask(url, "rules")["groups"]:
        for rule in group["rules"]:
            names.append(rule["name"])
            asked = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+(?=[{\[) ])", rule["query"]))
            metrics = {name for name in asked if name.startswith(("tokenmill_", "gen_ai_server"))}
            if rule["health"] != "ok" or not metrics <= known:
                unhealthy.append(f"{rule['name']}: {rule['health']} {sorted(metrics - known)}")
            if rule["state"] == "firing":
                firing.append(rule["name"])
    return {"num_rules": len(names), "unhealthy": unhealthy, "firing": firing}


def ask(url: str, path: str, **parameters: str) -> Any:
    """The data of one API call."""
    reply = httpx.get(f"{url}/api/v1/{path}", params=parameters, trust_env=False)
    if reply.status_code != 200:
        sys.exit(f"{path} {parameters}: {reply.text}")
    return reply.json()["data"]


if __name__ == "__main__":
    main()
