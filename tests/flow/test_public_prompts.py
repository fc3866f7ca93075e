"""Tenants share nothing of a prompt, until an operator says that its beginning is public."""

import itertools
import json
from pathlib import Path

import httpx
import pytest

from tests.support.cluster import LocalCluster, running_cluster, tokenmill, wait_until

pytestmark = pytest.mark.flow

BLOCK = 32
SYSTEM = "You are the assistant of a shop that sells nothing but clocks. " * 12


def key_of(cluster: LocalCluster, tenant: str) -> str:
    flags = ("--name", tenant, "--tenant", tenant, "--json")
    made = tokenmill("keys", "create", *flags, state_dir=cluster.state_dir)
    return json.loads(made)["api_key"]


def cached_tokens(cluster: LocalCluster, key: str, user: str) -> int:
    reply = httpx.post(
        f"{cluster.url}/v1/chat/completions",
        json={
            "model": cluster.model,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}],
            "max_tokens": 4,
        },
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert reply.status_code == 200, reply.text
    return reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.timeout(200)
def test_tenants_share_what_an_operator_published(tmp_path: Path, model_dir: Path):
    file = tmp_path / "system.txt"
    file.write_text(SYSTEM)
    with running_cluster(tmp_path / "state", "--engine", "fake", "--auth") as cluster:
        one, other = key_of(cluster, "one"), key_of(cluster, "other")
        question = "What is the time? " * 40
        assert cached_tokens(cluster, one, question) == 0
        assert cached_tokens(cluster, other, question) == 0
        assert cached_tokens(cluster, other, question) > BLOCK

        flags = ("--api-key", one, "--json")
        said = tokenmill("cache", "publish", "shop", str(file), *flags, state_dir=cluster.state_dir)
        num_public = json.loads(said)["num_tokens"] // BLOCK * BLOCK
        assert num_public >= 4 * BLOCK
        # The names changed: what was there is not found, and the first to ask computes it.
        wait_until(lambda: cached_tokens(cluster, one, question) == 0, 20, "the prompt is public")
        assert cached_tokens(cluster, other, question) == num_public
        assert cached_tokens(cluster, other, question) > num_public

        tokenmill("cache", "withdraw", "shop", state_dir=cluster.state_dir)
        strangers = (key_of(cluster, f"stranger-{idx}") for idx in itertools.count())
        wait_until(
            lambda: cached_tokens(cluster, next(strangers), question) == 0,
            20,
            "the prompt is private again",
        )
