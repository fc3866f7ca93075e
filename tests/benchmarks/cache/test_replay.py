"""Policies on traces, against what can be worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.cache.command import compare_policies
from benchmarks.cache.plot import plot
from benchmarks.cache.replay import accesses_of, factories, gap_closed, replay
from benchmarks.simulator.trace import BadTrace, TraceRequest, write_trace
from cache_service.policies.choice import PolicySettings

LOOP = [TraceRequest(float(idx), 512, 1, (idx % 3,)) for idx in range(30)]


def test_optimum_hits_a_loop_that_lru_never_does():
    accesses = accesses_of(LOOP)
    policies = factories(accesses, PolicySettings())
    assert replay(accesses, policies["lru"], 2).hit_share == 0.0
    assert replay(accesses, policies["optimal"], 2).hit_share == 18 / 30


def test_hit_counts_only_inside_the_leading_run():
    chain = TraceRequest(0.0, 1024, 1, (1, 2))
    accesses = accesses_of([chain, TraceRequest(1.0, 1024, 1, (3, 2)), chain])
    result = replay(accesses, factories(accesses, PolicySettings())["lru"], 10)
    assert (result.hit_share, result.tokens_saved) == (2 / 6, 1024)


def test_report_has_every_policy_at_every_size(tmp_path):
    file = tmp_path / "trace.jsonl"
    write_trace(file, LOOP)
    report = compare_policies(
        str(file), PolicySettings(), block_bytes=10, sizes=(0.5, 1.0), num_processes=2
    )
    assert set(report["sizes"]) == {"0.5", "1"}
    names = {"lru", "lfu", "ttl", "hybrid", "s3fifo", "sieve", "optimal"}
    assert report["sizes"]["1"] == dict.fromkeys(names, 0.9)
    assert set(report["byte_seconds"]["1"]) == names == set(report["recompute_tokens_saved"]["1"])
    assert report["gap_closed"]["1"] is None


def test_gap_is_measured_from_the_best_other():
    shares = {"lru": 0.1, "sieve": 0.2, "hybrid": 0.3, "optimal": 0.6}
    assert gap_closed(shares) == pytest.approx(0.25)


def test_curves_are_drawn(tmp_path):
    row = {"lru": 0.1, "hybrid": 0.3, "optimal": 0.6}
    report = {"trace": "a.jsonl", "sizes": {"0.01": row, "0.1": row}}
    plot(report, tmp_path / "curves.svg")
    assert "<svg" in (tmp_path / "curves.svg").read_text()


def test_trace_without_blocks_is_refused(tmp_path):
    file = tmp_path / "trace.jsonl"
    write_trace(file, [TraceRequest(0.0, 10, 1, ())])
    with pytest.raises(BadTrace, match="hash_ids"):
        compare_policies(str(file), PolicySettings(), block_bytes=1)
