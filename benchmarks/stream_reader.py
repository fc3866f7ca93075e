"""Reads thousands of streams at once, in a process of its own, and looks into them afterwards.

Server and client share the machine: while streams run, the client only takes bytes and the time.
Orders and answers are lines of JSON, as benchmarks.children has them.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_TIMEOUT_S = 120.0
_READ_BYTES = 16 << 10
_TEXT = b'"text":"'
_NO_TEXT = b'"text":""'
_DONE = b"data: [DONE]"
_NUM_TOKENS = re.compile(rb'"completion_tokens":(\d+)')
_NICENESS = 5
"""The gateway's work comes first: a client elsewhere would not slow it."""


@dataclass(slots=True)
class Stream:
    """One answer: when it was asked over its connection, when events came, and whether it ended.

    Attributes:
        num_tokens: as the stream's own usage says.
        arrivals_s: of reads that completed an event with text, on the clock of perf_counter().
    """

    began_s: float
    num_tokens: int = 0
    arrivals_s: list[float] = field(default_factory=list[float])
    is_whole: bool = False


def stream_of(began_s: float, reads: Sequence[tuple[float, bytes]]) -> Stream:
    """What was read, understood; an event may be cut anywhere, and counts where it ends."""
    stream, tail = Stream(began_s), b""
    for arrived_s, data in reads:
        data = tail + data
        cut = data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
        data, tail = data[:cut], data[cut:]
        if data.count(_TEXT) > data.count(_NO_TEXT):
            stream.arrivals_s.append(arrived_s)
        if _DONE in data:
            found = _NUM_TOKENS.search(data)
            stream.num_tokens = int(found[1]) if found else 0
            stream.is_whole = True
    return stream


@dataclass(frozen=True, slots=True)
class Order:
    """What to ask for.

    Attributes:
        num_streams: at once.
        ramp_s: streams begin spread over so long.
    """

    host: str
    port: int
    model: str
    num_streams: int
    num_tokens: int
    ramp_s: float = 0.0


def read_streams(order: Order) -> list[Stream]:
    """Asks POST /v1/completions for all streams and reads them to their ends.

    A stream whose connection breaks, or that takes far too long, is not whole.
    """
    payload = _payload(order)
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    reads: list[list[tuple[float, bytes]]] = []
    reads_of: dict[int, list[tuple[float, bytes]]] = {}
    began: list[float] = []
    clock = time.perf_counter
    started_s = clock()
    while len(began) < order.num_streams or sockets:
        if clock() - started_s > _TIMEOUT_S + order.ramp_s:
            break
        wait_s = 1.0
        if len(began) < order.num_streams:
            wait_s = started_s + order.ramp_s * len(began) / order.num_streams - clock()
            if wait_s <= 0:
                opened = _open(order)
                began.append(clock())
                reads.append([])
                if opened is not None and _sent(opened, payload):
                    sockets[opened.fileno()] = opened
                    reads_of[opened.fileno()] = reads[-1]
                    poll.register(opened.fileno(), select.EPOLLIN)
                wait_s = 0.0
        for fd, _ in poll.poll(wait_s):
            try:
                data = sockets[fd].recv(_READ_BYTES)
            except OSError:
                data = b""
            if data:
                reads_of[fd].append((clock(), data))
            else:
                poll.unregister(fd)
                sockets.pop(fd).close()
    for left in sockets.values():
        left.close()
    poll.close()
    return [stream_of(*one) for one in zip(began, reads, strict=True)]


def _open(order: Order) -> socket.socket | None:
    try:
        return socket.create_connection((order.host, order.port), timeout=_TIMEOUT_S)
    except OSError:
        return None


def _sent(opened: socket.socket, payload: bytes) -> bool:
    try:
        opened.sendall(payload)
        opened.setblocking(False)
    except OSError:
        opened.close()
        return False
    return True


def _payload(order: Order) -> bytes:
    body = json.dumps(
        {
            "model": order.model,
            "prompt": "One, two, three,",
            "max_tokens": order.num_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: {order.host}:{order.port}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main() -> None:
    """Carries out orders until there are no more."""
    os.nice(_NICENESS)
    _say({"ready": True})
    for line in sys.stdin:
        streams = read_streams(Order(**json.loads(line)))
        _say(
            {
                "streams": [
                    [one.began_s, one.num_tokens, one.is_whole, one.arrivals_s] for one in streams
                ]
            }
        )


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
