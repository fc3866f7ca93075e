"""With a sampler that takes nothing, requests that end badly or late still have whole traces."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.cli.traces.store import TraceStore
from tests.flow.test_trace_edges import edges_of
from tests.support.client import stream_chat
from tests.support.cluster import LocalCluster, running_cluster, tokenmill, wait_until

pytestmark = pytest.mark.flow

SLOW_S = 2.0
NUM_TOKENS_OF_SLOW = 150
"""At 20 ms a step: three seconds."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[LocalCluster]:
    with running_cluster(
        tmp_path_factory.mktemp("tail"),
        "--engine",
        "fake",
        environment={
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0",
            "TOKENMILL_TRACES_SLOW_S": str(SLOW_S),
            "TOKENMILL_FAKE_STEP_TIME_S": "0.02",
            "TOKENMILL_TOKENIZER_TIMEOUT_S": "0.5",
        },
    ) as cluster:
        yield cluster


async def ask(cluster: LocalCluster, max_tokens: int) -> str:
    body = {
        "model": cluster.model,
        # Longer than two blocks, so that there is something to look up and to offer.
        "messages": [{"role": "user", "content": "Count with me: " + " one two three" * 30}],
        "max_tokens": max_tokens,
        "ignore_eos": True,
    }
    return (await stream_chat(cluster.url, body)).request_id


def ask_without_a_tokenizer(cluster: LocalCluster) -> str:
    pid = cluster.kill("tokenizer", signal.SIGSTOP)
    try:
        reply = httpx.post(
            f"{cluster.url}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
            timeout=30,
        )
    finally:
        cluster.kill("tokenizer", signal.SIGCONT)
    assert cluster.process("tokenizer")["pid"] == pid
    assert reply.status_code == 503
    return reply.headers["x-request-id"]


def kept_requests(cluster: LocalCluster) -> set[str]:
    store = TraceStore(Path(cluster.state["traces_file"]))
    try:
        traces = [trace_id for _, trace_id in store.latencies()]
        return {
            str(span.attributes["tokenmill.request.id"])
            for trace_id in traces
            for span in store.spans_of(trace_id)
            if span.kind == "server" and "tokenmill.request.id" in span.attributes
        }
    finally:
        store.close()


async def test_exactly_the_slow_and_the_failed_request_have_traces_and_whole_ones(
    cluster: LocalCluster,
):
    ordinary = [await ask(cluster, 4) for _ in range(5)]
    slow, *others = await asyncio.gather(
        ask(cluster, NUM_TOKENS_OF_SLOW), *(ask(cluster, 4) for _ in range(5))
    )
    failed = await asyncio.to_thread(ask_without_a_tokenizer, cluster)
    wait_until(lambda: kept_requests(cluster) >= {slow, failed}, 20, "both are kept")
    assert kept_requests(cluster) == {slow, failed}

    expected = {
        (None, "POST /v1/chat/completions"),
        ("POST /v1/chat/completions", "chat {model}"),
        ("chat {model}", "tokenmill.v1.TokenizerService/Tokenize"),
        ("tokenmill.v1.TokenizerService/Tokenize", "tokenmill.v1.TokenizerService/Tokenize"),
        ("scheduler.place", "worker.request"),
        ("worker.request", "engine.prefill"),
        ("worker.request", "engine.decode"),
    }
    trace = cluster.trace(slow)
    assert edges_of(trace, cluster.model) >= expected
    # Every step that it was part of, and no span without its parent.
    assert (
        sum(span["name"] == "engine.step" for span in trace["linked_spans"]) >= NUM_TOKENS_OF_SLOW
    )
    for request_id in (slow, failed):
        spans = cluster.trace(request_id)["spans"]
        ids = {span["span_id"] for span in spans}
        assert not [
            span["name"]
            for span in spans
            if span["parent_span_id"] and span["parent_span_id"] not in ids
        ]

    # Who asks soon enough has any request explained, though nobody kept it.
    wanted = others[0]
    told = json.loads(tokenmill("explain", wanted, "--json", state_dir=cluster.state_dir))
    parts_ms = sum(told["parts_ms"].values()) + told["unattributed_ms"]
    assert parts_ms == pytest.approx(told["latency_ms"])
    assert told["unattributed_ms"] <= 0.02 * told["latency_ms"]
    assert kept_requests(cluster) == {slow, failed, wanted}
    assert ordinary[0] not in kept_requests(cluster)
