"""Requests that come in, from a file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.core.blocks import BLOCK_HASH_BYTES, BlockHash
from services.core.request import RequestClass

TRACE_BLOCK_SIZE = 512
"""Tokens under one hash id in the public traces."""


class BadTrace(ValueError):
    """A line that is no request."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of a trace.

    Attributes:
        hash_ids: ids of the prompt's blocks, the last one may be partly filled; equal leading ids
            are equal prefixes.
    """

    arrival_s: float
    num_prompt: int
    num_output: int
    hash_ids: tuple[int, ...]
    tenant: str = ""
    request_class: RequestClass = RequestClass.INTERACTIVE

    def block_hashes(self, block_size: int) -> tuple[BlockHash, ...]:
        """Hashes of the full blocks."""
        return tuple(
            hash_id.to_bytes(BLOCK_HASH_BYTES, "little")
            for hash_id in self.hash_ids[: self.num_prompt // block_size]
        )


def read_trace(path: Path) -> list[TraceRequest]:
    """Reads a trace, one JSON object a line, gzip or not, and sorts it by arrival.

    Raises:
        BadTrace: a line is not a request, or there is none.
        OSError: the file cannot be read.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        requests = [_parse(line, line_idx) for line_idx, line in enumerate(file, 1) if line.strip()]
    if not requests:
        raise BadTrace("it holds no request")
    return sorted(requests, key=lambda request: request.arrival_s)


def write_trace(path: Path, requests: Iterable[TraceRequest]) -> None:
    """Writes a trace that `read_trace` reads."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        for request in requests:
            entry: dict[str, Any] = {
                "timestamp": round(request.arrival_s * 1000),
                "input_length": request.num_prompt,
                "output_length": request.num_output,
                "hash_ids": list(request.hash_ids),
            }
            if request.tenant:
                entry["tenant"] = request.tenant
            if request.request_class is not RequestClass.INTERACTIVE:
                entry["class"] = request.request_class.value
            file.write(json.dumps(entry) + "\n")


def at_rate(requests: Sequence[TraceRequest], requests_per_s: float) -> list[TraceRequest]:
    """The same requests, closer together or further apart."""
    span_s = max(1e-9, requests[-1].arrival_s - requests[0].arrival_s)
    scale = len(requests) / requests_per_s / span_s
    return [
        replace(request, arrival_s=(request.arrival_s - requests[0].arrival_s) * scale)
        for request in requests
    ]


def mean_rate(requests: Sequence[TraceRequest]) -> float:
    """Requests per second over the whole trace."""
    return len(requests) / max(1e-9, requests[-1].arrival_s - requests[0].arrival_s)


def _parse(line: str, line_idx: int) -> TraceRequest:
    try:
        entry: Mapping[str, Any] = json.loads(line)
        request = TraceRequest(
            arrival_s=float(entry["timestamp"]) / 1000,
            num_prompt=int(entry["input_length"]),
            num_output=int(entry["output_length"]),
            hash_ids=tuple(int(hash_id) for hash_id in entry.get("hash_ids", ())),
            tenant=str(entry.get("tenant", "")),
            request_class=RequestClass(entry.get("class", RequestClass.INTERACTIVE.value)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BadTrace(f"line {line_idx} is no request of a trace: {exc!r}") from exc
    if request.num_prompt < 1 or request.num_output < 1 or any(i < 0 for i in request.hash_ids):
        raise BadTrace(f"line {line_idx} has a length below 1 or a negative hash id")
    return request
