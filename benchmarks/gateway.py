"""Cost and smoothness of a gateway under many streams, with workers that only keep time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.stream_reader import Stream, read_stream
from services.core.percentile import percentile

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What to load a gateway with.

    Attributes:
        num_streams: at once.
        num_tokens: of each answer.
        step_s: pace of the fake workers: a token of every stream each.
        ramp_s: streams begin spread over so long.
        num_probes: requests one after the other before the load, for the added time to first token.
    """

    num_streams: int = 1000
    num_tokens: int = 200
    step_s: float = 0.05
    ramp_s: float = 5.0
    num_probes: int = 30


@dataclass(frozen=True, slots=True)
class Target:
    """The gateway to load, on this machine."""

    host: str
    port: int
    model: str
    pid: int


def measure_streams(target: Target, plan: StreamPlan) -> dict[str, Any]:
    """Loads a gateway.

    Returns:
        streams, completed, gaps (tokens missing from answers), itl_p99_ratio (99th percentile of
        the times between tokens, over the workers' own pace), cpu_us_per_token (of the gateway's
        process), added_ttft_ms_p50 (beyond one step of the fake worker, alone).
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(target, plan))


async def _measure(target: Target, plan: StreamPlan) -> dict[str, Any]:
    probes = [await _read(target, 2) for _ in range(plan.num_probes)]
    firsts_s = [one.arrivals_s[0] - one.began_s for one in probes if one and one.arrivals_s]
    before_s, began_s = _cpu_s(target.pid), time.perf_counter()
    streams = await asyncio.gather(
        *(_read_later(target, plan, idx) for idx in range(plan.num_streams))
    )
    wall_s, cpu_s = time.perf_counter() - began_s, _cpu_s(target.pid) - before_s
    whole = [one for one in streams if one is not None and one.is_whole]
    num_tokens = sum(one.num_tokens for one in streams if one is not None)
    gaps_s = [gap for one in whole for gap in _gaps(one.arrivals_s)]
    return {
        "streams": plan.num_streams,
        "completed": sum(one.num_tokens == plan.num_tokens for one in whole),
        "gaps": plan.num_streams * plan.num_tokens - num_tokens,
        "itl_p99_ratio": round(percentile(gaps_s, 0.99) / plan.step_s, 3) if gaps_s else None,
        "cpu_us_per_token": round(cpu_s / num_tokens * 1e6, 1) if num_tokens else None,
        "added_ttft_ms_p50": (
            round((percentile(firsts_s, 0.5) - plan.step_s) * 1000, 2) if firsts_s else None
        ),
        "tokens_per_s": round(num_tokens / wall_s, 1),
        "gateway_cpu_share": round(cpu_s / wall_s, 3),
    }


async def _read_later(target: Target, plan: StreamPlan, idx: int) -> Stream | None:
    await asyncio.sleep(plan.ramp_s * idx / plan.num_streams)
    return await _read(target, plan.num_tokens)


async def _read(target: Target, num_tokens: int) -> Stream | None:
    try:
        return await read_stream(target.host, target.port, target.model, num_tokens)
    except (OSError, TimeoutError):
        return None


def _gaps(arrivals_s: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(arrivals_s)]


def _cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
