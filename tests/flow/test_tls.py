"""A cluster behind TLS, as `tokenmill up` starts it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gateway.test_tls import write_certificate
from tests.support.cluster import running_cluster, tokenmill
from tokenmill_client import Client, SamplingParams, Tls

pytestmark = [pytest.mark.flow, pytest.mark.model]


def test_a_cluster_behind_tls_starts_and_answers_at_both_doors(tmp_path: Path, model_dir: Path):
    write_certificate(tmp_path, "ours")
    certificate = str(tmp_path / "cert.pem")
    tls = {
        "TOKENMILL_TLS_CERT_FILE": certificate,
        "TOKENMILL_TLS_KEY_FILE": str(tmp_path / "key.pem"),
    }
    with running_cluster(tmp_path / "state", "--engine", "fake", environment=tls) as cluster:
        assert cluster.url.startswith("https://")
        answer = tokenmill(
            *("ask", "hello", "--max-tokens", "3", "--json"),
            state_dir=cluster.state_dir,
            environment={"SSL_CERT_FILE": certificate},
        )
        assert json.loads(answer)["finish_reason"] == "length"
        with Client(cluster.grpc_target, tls=Tls(ca_file=certificate), timeout_s=60) as client:
            answered = client.generate("hello", sampling=SamplingParams(max_tokens=3))
    assert answered.usage.completion_tokens == 3
