"""One trace per request: every hop hangs where it belongs, and no span is an orphan."""

from typing import Any

import pytest

from tests.support.client import stream_chat
from tests.support.cluster import LocalCluster, wait_until

pytestmark = pytest.mark.flow

QUEUE = "tokenmill.requests.{model}.{lane}"
CACHE = "tokenmill.v1.CacheService"

# (parent, child): adding a hop edits this list.
EXPECTED_EDGES = {
    (None, "POST /v1/chat/completions"),
    ("POST /v1/chat/completions", "chat {model}"),
    ("chat {model}", "tokenmill.v1.TokenizerService/Tokenize"),
    ("tokenmill.v1.TokenizerService/Tokenize", "tokenmill.v1.TokenizerService/Tokenize"),
    ("chat {model}", f"publish {QUEUE}"),
    (f"publish {QUEUE}", f"process {QUEUE}"),
    (f"process {QUEUE}", "scheduler.place"),
    ("scheduler.place", "tokenmill.v1.WorkerService/Submit"),
    ("tokenmill.v1.WorkerService/Submit", "tokenmill.v1.WorkerService/Submit"),
    ("scheduler.place", "worker.request"),
    ("worker.request", "cache.fetch"),
    ("cache.fetch", f"{CACHE}/Lookup"),
    (f"{CACHE}/Lookup", f"{CACHE}/Lookup"),
    ("worker.request", "engine.prefill"),
    ("worker.request", "engine.decode"),
    ("worker.request", "cache.offer"),
    ("cache.offer", f"{CACHE}/Lookup"),
    ("cache.offer", f"{CACHE}/Put"),
    (f"{CACHE}/Put", f"{CACHE}/Put"),
}


def edges_of(trace: dict[str, Any], model: str) -> set[tuple[str | None, str]]:
    names = {
        # Blocks go through shared memory where there is room for it, else in messages.
        span["span_id"]: span["name"].replace(model, "{model}").replace("PutShared", "Put")
        for span in trace["spans"]
        if span["name"] != "engine.step"
    }
    return {
        (names.get(span["parent_span_id"]), names[span["span_id"]])
        for span in trace["spans"]
        if span["span_id"] in names
    }


async def test_every_hop_hangs_where_it_belongs(real_cluster: LocalCluster):
    body = {
        "model": real_cluster.model,
        # Longer than two blocks, so that there is something to look up and to offer.
        "messages": [{"role": "user", "content": "Count with me: " + " one two three" * 30}],
        "max_tokens": 8,
        "ignore_eos": True,
    }
    answer = await stream_chat(real_cluster.url, body)

    def is_complete() -> bool:
        found = edges_of(real_cluster.trace(answer.request_id), real_cluster.model)
        return found >= EXPECTED_EDGES

    try:
        wait_until(is_complete, 20, "the trace is complete")
    finally:
        trace = real_cluster.trace(answer.request_id)
        found = edges_of(trace, real_cluster.model)
        assert found == EXPECTED_EDGES
    ids = {span["span_id"] for span in trace["spans"]}
    orphans = [
        span["name"]
        for span in trace["spans"]
        if span["parent_span_id"] and span["parent_span_id"] not in ids
    ]
    assert not orphans
