import shutil
import sys
from pathlib import Path

from benchmarks.scheduler.throughput import ThroughputPlan, measure_throughput


def test_every_request_comes_to_a_worker_through_broker_and_scheduler(tmp_path: Path):
    beside = Path(sys.executable).with_name("nats-server")
    program = str(beside) if beside.exists() else shutil.which("nats-server")
    assert program is not None
    plan = ThroughputPlan(num_queued=100, rate_per_s=50, duration_s=1, num_workers=2)
    figures = measure_throughput(plan, program, tmp_path)
    assert figures["requests_per_s"] > 0
    assert 0 < figures["added_latency_ms"]["p50"] <= figures["added_latency_ms"]["p99"]
