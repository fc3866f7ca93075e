"""Replays a trace and reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.cache.parallel import Case, replay_all
from benchmarks.cache.replay import (
    SIZES,
    Replay,
    accesses_of,
    factories,
    gap_closed,
    working_set,
)
from benchmarks.simulator.synthetic import PREFIX, SHAPES
from benchmarks.simulator.trace import BadTrace, TraceRequest, read_trace
from cache_service.policies.choice import PolicySettings


def compare_policies(
    trace: str,
    settings: PolicySettings,
    *,
    block_bytes: int,
    sizes: Sequence[float] = SIZES,
    num_processes: int | None = None,
) -> dict[str, Any]:
    """Hit shares of every policy at every size, and what they cost and save.

    Args:
        trace: a file, or `synthetic:` and a shape.
        settings: of the policies.
        block_bytes: what a block takes in memory, for byte-seconds.
        sizes: shares of the working set.
        num_processes: that replay at once; None: one for each CPU.

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
    names = list(factories(accesses, settings))
    cases = [Case(name, size, int(num_blocks * size)) for size in sizes for name in names]
    found: dict[tuple[float, str], Replay] = {}
    for case, result in replay_all(accesses, settings, cases, num_processes=num_processes):
        found[case.size, case.policy] = result
    for size in sizes:
        results = {name: found[size, name] for name in names}
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
