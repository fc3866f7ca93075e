"""Replays a trace and reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.cache.replay import SIZES, accesses_of, factories, gap_closed, replay, working_set
from benchmarks.simulator.synthetic import PREFIX, SHAPES
from benchmarks.simulator.trace import BadTrace, TraceRequest, read_trace
from cache_service.policies.choice import PolicySettings


def compare_policies(
    trace: str, settings: PolicySettings, *, block_bytes: int, sizes: Sequence[float] = SIZES
) -> dict[str, Any]:
    """Hit shares of every policy at every size, and what they cost and save.

    Args:
        trace: a file, or `synthetic:` and a shape.
        settings: of the policies.
        block_bytes: what a block takes in memory, for byte-seconds.
        sizes: shares of the working set.

    Raises:
        BadTrace: it is not one, or has no blocks.
        OSError: it cannot be read.
    """
    accesses = accesses_of(_requests(trace))
    if not accesses:
        raise BadTrace("no request has hash_ids")
    num_blocks = working_set(accesses)
    shares: dict[str, dict[str, float]] = {}
    byte_seconds: dict[str, dict[str, float]] = {}
    tokens_saved: dict[str, dict[str, int]] = {}
    for size in sizes:
        results = {
            name: replay(accesses, new_policy, int(num_blocks * size))
            for name, new_policy in factories(accesses, settings).items()
        }
        key = f"{size:g}"
        shares[key] = {name: round(result.hit_share, 5) for name, result in results.items()}
        byte_seconds[key] = {n: round(r.block_s * block_bytes) for n, r in results.items()}
        tokens_saved[key] = {name: result.tokens_saved for name, result in results.items()}
    gaps = {key: gap_closed(row) for key, row in shares.items()}
    known = [gap for gap in gaps.values() if gap is not None]
    return {
        "trace": trace,
        "num_requests": len(accesses),
        "working_set_blocks": num_blocks,
        "sizes": shares,
        "byte_seconds": byte_seconds,
        "recompute_tokens_saved": tokens_saved,
        "gap_closed": gaps,
        "mean_gap_closed": mean(known) if known else None,
    }


def _requests(trace: str) -> list[TraceRequest]:
    if trace.startswith(PREFIX):
        shape = SHAPES.get(trace.removeprefix(PREFIX))
        if shape is None:
            raise BadTrace(f"there is no shape {trace!r}; there are {', '.join(SHAPES)}")
        return shape()
    return read_trace(Path(trace))
