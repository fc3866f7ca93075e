"""A client that stops reading, beside one that reads."""

import asyncio
import json
import socket
from typing import Any

import pytest

from tests.support.client import StreamedAnswer, stream_chat, take
from tests.support.cluster import LocalCluster, wait_until

pytestmark = pytest.mark.flow

MAX_TOKENS = 320


def begin(cluster: LocalCluster, body: dict[str, Any]) -> socket.socket:
    """Asks, over a connection that takes little by itself."""
    host, _, port = cluster.url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect((host, int(port)))
    payload = json.dumps({**body, "stream": True, "return_token_ids": True}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
    )
    client.sendall(head.encode() + payload)
    return client


def rest_of(client: socket.socket) -> StreamedAnswer:
    """Reads the reply to its end and joins what it says."""
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    _, _, body = received.partition(b"\r\n\r\n")
    text = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        text += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    answer = StreamedAnswer()
    for event in text.decode().split("\n\n"):
        if event:
            take(answer, event.removeprefix("data: "))
    return answer


def num_pauses(cluster: LocalCluster) -> float:
    return cluster.metric("tokenmill_gateway_attempts_paused_total")


async def test_slow_reader_stops_its_own_sequence_alone_and_loses_nothing(
    fake_cluster: LocalCluster,
):
    body = {
        "model": fake_cluster.model,
        "messages": [{"role": "user", "content": "Go on."}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        # Large events: they fill what kernel and server hold in a test's time.
        "logprobs": True,
        "top_logprobs": 20,
    }
    with begin(fake_cluster, body) as client:
        await asyncio.to_thread(
            wait_until, lambda: num_pauses(fake_cluster) > 0, 60, "the sequence is paused"
        )
        beside = await stream_chat(fake_cluster.url, {**body, "logprobs": False, "top_logprobs": 0})
        answer = await asyncio.to_thread(rest_of, client)
    assert beside.finish_reason == answer.finish_reason == "length"
    assert answer.is_done
    assert len(answer.token_ids) == MAX_TOKENS
    assert answer.token_ids == beside.token_ids
