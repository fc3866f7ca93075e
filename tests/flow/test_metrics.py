"""What a running cluster tells of itself is what docs/metrics.md says, by the rules of promtool."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.client import stream_chat
from tests.support.cluster import LocalCluster

pytestmark = pytest.mark.flow

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `([a-z_:0-9]+)` \| (\w+) \|")
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


def documented() -> dict[str, set[tuple[str, str]]]:
    """Name and type of each metric, by the heading that it stands below."""
    rows: dict[str, set[tuple[str, str]]] = {}
    service = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            service = line.strip("# ")
        elif row := ROW.match(line):
            rows.setdefault(service, set()).add((row[1], row[2]))
    return rows


def scrape(process: dict[str, Any], accept: str = "") -> str:
    url = f"http://127.0.0.1:{process['metrics_port']}/metrics"
    return httpx.get(url, headers={"accept": accept}, trust_env=False).text


def told(text: str) -> set[tuple[str, str]]:
    return {
        (family.name + ("_total" if family.type == "counter" else ""), family.type)
        for family in text_string_to_metric_families(text)
        if not family.name.startswith(("python_", "process_"))
    }


@pytest.fixture(scope="module")
def processes(fake_cluster: LocalCluster) -> list[dict[str, Any]]:
    return [process for process in fake_cluster.state["processes"] if process["metrics_port"]]


def test_every_process_tells_what_the_page_says_and_no_more(processes):
    assert {process["role"] for process in processes} == {
        "traces", "tokenizer", "cache", "scheduler", "worker", "gateway",
    }  # fmt: skip
    rows = documented()
    for process in processes:
        expected = rows["Every process"] | rows.get(process["role"], set())
        assert told(scrape(process)) == expected, process["name"]


async def test_a_request_leaves_its_trace_id_at_every_hop(fake_cluster: LocalCluster, processes):
    body = {
        "model": fake_cluster.model,
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
        "max_tokens": 4,
    }
    headers = {"traceparent": f"00-{'c' * 32}-{'d' * 16}-01"}
    await stream_chat(fake_cluster.url, body, headers=headers)
    answers = {process["role"]: "" for process in processes}
    for process in processes:
        answers[process["role"]] += scrape(process, OPEN_METRICS)
    for role in ("gateway", "tokenizer", "scheduler", "worker"):
        assert f'trace_id="{"c" * 32}"' in answers[role], role
    assert "vllm:time_to_first_token_seconds_bucket" in answers["gateway"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_against_our_names(processes):
    for process in processes:
        # The names of vLLM are as they are; docs/metrics.md says what promtool thinks of them.
        own = [line for line in scrape(process).splitlines() if "vllm:" not in line]
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input="\n".join(own) + "\n",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), process["name"]
