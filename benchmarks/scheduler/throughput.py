"""Requests through a real broker and a real scheduler process to workers that only take note."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.children import Child
from benchmarks.scheduler.decisions import bench_request
from services.core.percentile import percentile
from services.core.request import RequestClass
from services.runtime import names
from services.runtime.bus import Bus, QueueLimits, connect_bus
from services.runtime.lifecycle import spare_pauses
from services.wire.queue import encode_queued_request
from services.wire.subjects import lane_notice_subject, lane_of, message_id, requests_subject

MODEL = "bench"
_TENANTS = 8
_TIMEOUT_S = 60.0
_IN_FLIGHT = 256
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ThroughputPlan:
    """How much goes through.

    Attributes:
        num_queued: requests that wait when the scheduler starts: how fast it drains them counts.
        rate_per_s: of the second part, in which requests come one by one.
        duration_s: of the second part.
        num_workers: that take them.
        num_prompt_tokens: of each.
    """

    num_queued: int = 8_000
    rate_per_s: float = 1_000.0
    duration_s: float = 8.0
    num_workers: int = 8
    num_prompt_tokens: int = 256


@dataclass(frozen=True, slots=True)
class _Message:
    """A request, encoded before the clock runs: a gateway's work is not the scheduler's."""

    request_id: str
    subject: str
    payload: bytes


def measure_throughput(plan: ThroughputPlan, nats_server: str, folder: Path) -> dict[str, Any]:
    """Starts broker, workers and scheduler, and sends requests.

    Args:
        plan: how much.
        nats_server: the program.
        folder: for the broker's store and what the processes say.

    Returns:
        requests_per_s (draining a full queue), added_latency_ms (from publishing to the worker, at
        `rate_per_s`), cpu_us_per_request (of the scheduler, while draining), cpu_shares (of one
        CPU, by process, at `rate_per_s`: together they cannot be more than there are CPUs; `others`
        is what else ran on the machine).
    """
    with ExitStack() as stack:
        port = _free_port()
        url = f"nats://127.0.0.1:{port}"
        broker = subprocess.Popen(
            [nats_server, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder / "nats")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_end, broker)
        environment = {
            "TOKENMILL_NATS_URL": url,
            "TOKENMILL_MODEL_NAME": MODEL,
            "TOKENMILL_BENCH_WORKERS": str(plan.num_workers),
            # What is measured is the scheduler, not the export of its spans.
            "OTEL_SDK_DISABLED": "true",
        }
        workers = stack.enter_context(
            Child(
                "the fake workers",
                [sys.executable, "-m", "benchmarks.scheduler.workers"],
                environment=environment,
                log_file=folder / "workers.log",
            )
        )

        def start_scheduler() -> int:
            with (folder / "scheduler.log").open("w") as log:
                scheduler = subprocess.Popen(
                    [sys.executable, "-m", "services.scheduler.main"],
                    env={**os.environ, **environment},
                    stdout=log,
                    stderr=log,
                )
            stack.callback(_end, scheduler)
            return scheduler.pid

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(plan, url, workers, broker.pid, start_scheduler))


async def _measure(
    plan: ThroughputPlan,
    url: str,
    workers: Child,
    broker_pid: int,
    start_scheduler: Callable[[], int],
) -> dict[str, Any]:
    async with connect_bus(url, name="bench") as bus:
        await bus.ensure_requests_stream(QueueLimits(max_messages=2 * plan.num_queued))
        gate = asyncio.Semaphore(_IN_FLIGHT)
        for tenant_idx in range(_TENANTS):
            # A gateway tells of a lane in use once in a while, not with each request.
            lane = lane_of(RequestClass.INTERACTIVE, 1, _tenant(tenant_idx))
            await bus.publish(lane_notice_subject(MODEL, lane), b"")
        waiting = [_message(plan, f"drain-{idx}") for idx in range(plan.num_queued)]
        await asyncio.gather(*(_send(bus, message, gate) for message in waiting))
        pid = start_scheduler()
        arrivals = await _wait_for(workers, plan.num_queued)
        cpu_s = _cpu_s(pid)
        times = sorted(arrivals.values())
        # From the tenth to the last but one tenth: starting and the last few are no throughput.
        first, last = len(times) // 10, len(times) * 9 // 10
        drain_rps = (last - first) / (times[last] - times[first])
        sent_s: dict[str, float] = {}
        num_requests = round(plan.rate_per_s * plan.duration_s)
        paced = [_message(plan, f"paced-{idx}") for idx in range(num_requests)]
        spare_pauses()
        processes = {
            "scheduler": pid,
            "broker": broker_pid,
            "workers": workers.pid,
            "client": os.getpid(),
        }
        cpu_before_s = {name: _cpu_s(one) for name, one in processes.items()}
        machine_before_s = _machine_cpu_s()
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for idx, message in enumerate(paced):
                due_s = began_s + idx / plan.rate_per_s
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                sent_s[message.request_id] = time.time()
                group.create_task(_send(bus, message, gate))
        publish_s = time.perf_counter() - began_s
        paced_cpu_s = {name: _cpu_s(one) - cpu_before_s[name] for name, one in processes.items()}
        machine_s = _machine_cpu_s() - machine_before_s
        others_s = max(0.0, machine_s - sum(paced_cpu_s.values()))
        arrivals = await _wait_for(workers, num_requests)
    added_s = [arrived_s - sent_s[request_id] for request_id, arrived_s in arrivals.items()]
    return {
        "requests_per_s": round(drain_rps, 1),
        "cpu_us_per_request": round(1e6 * cpu_s / plan.num_queued, 1),
        "added_latency_ms": {
            name: round(1000 * percentile(added_s, share), 2)
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
        },
        "paced_cpu_us_per_request": round(1e6 * paced_cpu_s["scheduler"] / num_requests, 1),
        "cpu_shares": {
            name: round(cpu_s / publish_s, 3)
            for name, cpu_s in (*paced_cpu_s.items(), ("others", others_s))
        },
        "paced_requests_per_s": round(num_requests / publish_s, 1),
        "prompt_tokens": plan.num_prompt_tokens,
        "fake_workers": plan.num_workers,
    }


async def _wait_for(workers: Child, num_requests: int) -> Mapping[str, float]:
    arrivals: dict[str, float] = {}
    deadline_s = time.monotonic() + _TIMEOUT_S
    while len(arrivals) < num_requests:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{len(arrivals)} of {num_requests} requests came to a worker")
        await asyncio.sleep(0.5)
        answer = await asyncio.to_thread(workers.ask, {"do": "arrivals"})
        arrivals |= answer["arrivals"]
    return arrivals


async def _send(bus: Bus, message: _Message, gate: asyncio.Semaphore) -> None:
    async with gate:
        await bus.enqueue(
            message.subject,
            message.payload,
            message_id=message_id(message.request_id, 1),
            template=names.REQUESTS_TEMPLATE,
        )


def _message(plan: ThroughputPlan, request_id: str) -> _Message:
    # The same in every run, which hash() would not be.
    tenant = _tenant(zlib.crc32(request_id.encode()) % _TENANTS)
    request = replace(bench_request(plan.num_prompt_tokens), request_id=request_id, tenant=tenant)
    lane = lane_of(request.request_class, request.attempt, tenant)
    return _Message(request_id, requests_subject(MODEL, lane), encode_queued_request(request))


def _tenant(tenant_idx: int) -> str:
    return f"tenant-{tenant_idx}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _machine_cpu_s() -> float:
    """Time in which any CPU of the machine was busy."""
    user, nice, system, _, _, irq, soft_irq = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + soft_irq) / _TICKS_PER_S
