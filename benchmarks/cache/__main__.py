"""`python -m benchmarks.cache`, as `tokenmill bench cache` runs it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import structlog

from benchmarks.cache.command import compare_policies
from benchmarks.cache.misses import MissPlan, measure_misses
from benchmarks.cache.plot import plot
from benchmarks.cache.replay import SIZES
from benchmarks.simulator.synthetic import PREFIX, SHAPES
from benchmarks.simulator.trace import BadTrace
from cache_service.policies.choice import PolicySettings

_BLOCK_BYTES = 32 * 2 * 30 * 3 * 64 * 2
"""32 tokens of the default model in bf16: K and V of 30 layers, 3 heads of 64."""


def main() -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="tokenmill bench cache",
        description="Replays a trace under every eviction policy, S3-FIFO, SIEVE and the optimum;"
        " or measures how blocks travel, or what a miss tells.",
    )
    shapes = ", ".join(f"{PREFIX}{name}" for name in SHAPES)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--trace", help=f"JSONL (or .gz) with hash_ids, or {shapes}")
    what.add_argument(
        "--transport",
        action="store_true",
        help="measures instead how fast blocks come through shared memory and in messages",
    )
    what.add_argument(
        "--misses",
        action="store_true",
        help="measures instead whether a miss takes longer where another tenant has the text",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--sizes",
        default=",".join(f"{size:g}" for size in SIZES),
        help="shares of the working set, by commas",
    )
    parser.add_argument("--block-bytes", type=int, default=_BLOCK_BYTES, help="for byte-seconds")
    parser.add_argument("--plot", type=Path, help="draws the curves into this file")
    arguments = parser.parse_args()
    if arguments.transport:
        return _transport(as_json=arguments.json)
    if arguments.misses:
        print(json.dumps(measure_misses(MissPlan()), indent=None if arguments.json else 2))
        return 0
    try:
        sizes = [float(text) for text in arguments.sizes.split(",")]
        if not all(0 < size <= 1 for size in sizes):
            raise ValueError("each must be above 0 and at most 1")
    except ValueError as exc:
        parser.error(f"--sizes is {arguments.sizes!r}: {exc}")
    try:
        report = compare_policies(
            arguments.trace, PolicySettings(), block_bytes=arguments.block_bytes, sizes=sizes
        )
        if arguments.plot is not None:
            plot(report, arguments.plot)
    except (BadTrace, OSError) as exc:
        sys.stderr.write(f"tokenmill: {exc}\n")
        return 1
    if arguments.json:
        print(json.dumps(report))
    else:
        _show(report)
    return 0


def _transport(*, as_json: bool) -> int:
    # The answer alone goes to stdout.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    # What it needs is heavy, and of no use to a replay.
    from benchmarks.cache.transport import NoService, TransportPlan, measure_transport
    from benchmarks.quiet import alone

    try:
        with alone():
            report = measure_transport(TransportPlan())
    except NoService as exc:
        sys.stderr.write(f"tokenmill: {exc}\n")
        return 1
    print(json.dumps(report, indent=None if as_json else 2))
    return 0


def _show(report: dict[str, Any]) -> None:
    print(
        f"{report['num_requests']} requests, {report['working_set_blocks']} blocks in all;"
        " share of blocks hit, by size of the cache"
    )
    rows = report["sizes"]
    policies = list(next(iter(rows.values())))
    print("".join(f"{name:>9}" for name in ["", *policies]))
    for size, row in rows.items():
        print(f"{float(size):>9.0%}" + "".join(f"{row[name]:>9.3f}" for name in policies))
    closed = report["mean_gap_closed"]
    if closed is not None:
        print(f"hybrid closes {closed:.0%} of the gap from the best other to the optimum")


if __name__ == "__main__":
    sys.exit(main())
